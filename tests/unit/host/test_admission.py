"""The slots: never more inside than allowed, never more waiting, first come first served."""

import asyncio
from collections.abc import Sequence

import hypothesis
import pytest
from hypothesis import strategies as st

from slipstream_runtime.host.admission import QueueFullError, Slots
from slipstream_runtime.host.limits import Limits

ACTIONS = st.lists(
    st.tuples(st.sampled_from(["come", "leave", "give up"]), st.integers(0, 50)), max_size=60
)


@hypothesis.given(st.integers(1, 4), st.integers(0, 5), ACTIONS)
def test_a_gate_keeps_its_bounds_and_its_order(
    concurrency: int, queue: int, actions: Sequence[tuple[str, int]]
) -> None:
    asyncio.run(_play(concurrency, queue, actions))


async def _play(concurrency: int, queue: int, actions: Sequence[tuple[str, int]]) -> None:
    slots = Slots(concurrency=concurrency, queue=queue)
    inside, waiting = 0, list[asyncio.Future[None]]()
    for action, which in actions:
        if action == "come":
            if slots.take():
                assert not waiting
                inside += 1
            elif len(waiting) < queue:
                waiting.append(slots.wait())
            else:
                with pytest.raises(QueueFullError):
                    slots.wait()
        elif action == "leave" and inside:
            slots.release()
            if waiting:
                assert waiting.pop(0).done()
            else:
                inside -= 1
        elif action == "give up" and waiting:
            slots.give_up(waiting.pop(which % len(waiting)))
        assert slots.taken == inside <= concurrency
        assert slots.waiting == len(waiting) <= queue
        assert not any(turn.done() for turn in waiting)
        assert not waiting or inside == concurrency


async def test_who_gives_up_a_turn_that_has_come_passes_the_place_on() -> None:
    slots = Slots(concurrency=1, queue=2)
    assert slots.take()
    first, second = slots.wait(), slots.wait()
    slots.release()
    assert first.done()
    slots.give_up(first)
    assert second.done()
    slots.release()
    assert slots.taken == 0


@pytest.mark.parametrize(
    ("limits", "engine_slots", "runs", "waits"),
    [
        pytest.param({}, None, 10_000, 0, id="nothing is known, nothing is bounded"),
        pytest.param({}, 8, 8 + 32, 0, id="the engine's slots, and four waiting for each"),
        pytest.param({"queue": 3}, 8, 11, 0, id="the engine's slots and those who wait in it"),
        pytest.param({"concurrency": 2}, 8, 2, 8, id="four wait for each that runs"),
        pytest.param({"concurrency": 2, "queue": 0}, 8, 2, 0, id="nobody waits"),
        pytest.param({"concurrency": 2, "queue": 5}, None, 2, 5, id="as said"),
    ],
)
async def test_what_runs_and_what_waits(
    limits: dict[str, int], engine_slots: int | None, runs: int, waits: int
) -> None:
    slots = Limits.model_validate(limits).slots(engine_slots=engine_slots)
    assert sum(slots.take() for _ in range(10_000)) == runs
    for _ in range(waits):
        slots.wait()
    with pytest.raises(QueueFullError):
        slots.wait()


async def test_a_request_for_several_answers_takes_a_place_for_each_and_is_not_overtaken() -> None:
    slots = Slots(concurrency=4, queue=2)
    assert slots.take(3)
    many = slots.wait(slots.fitting(10))
    assert not slots.take(1)
    one = slots.wait(1)
    slots.release(3)
    assert (many.done(), one.done(), slots.taken) == (True, False, 4)
    slots.release(4)
    assert (one.done(), slots.taken) == (True, 1)


async def test_who_needed_many_places_and_leaves_lets_the_next_in() -> None:
    slots = Slots(concurrency=4, queue=2)
    assert slots.take(3)
    many, one = slots.wait(2), slots.wait(1)
    slots.give_up(many, 2)
    assert one.done()
    assert slots.taken == 4
