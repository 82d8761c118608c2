"""The gate: never more inside than allowed, never more waiting, first come first served."""

import asyncio
from collections.abc import Sequence

import hypothesis
import pytest
from hypothesis import strategies as st

from slipstream_runtime.host.admission import FullError, Gate
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
    gate = Gate(concurrency=concurrency, queue=queue)
    inside, waiting = 0, list[asyncio.Future[None]]()
    for action, which in actions:
        if action == "come":
            if gate.enter():
                assert not waiting
                inside += 1
            elif len(waiting) < queue:
                waiting.append(gate.wait())
            else:
                with pytest.raises(FullError):
                    gate.wait()
        elif action == "leave" and inside:
            gate.leave()
            if waiting:
                assert waiting.pop(0).done()
            else:
                inside -= 1
        elif action == "give up" and waiting:
            gate.give_up(waiting.pop(which % len(waiting)))
        assert gate.inside == inside <= concurrency
        assert gate.waiting == len(waiting) <= queue
        assert not any(turn.done() for turn in waiting)
        assert not waiting or inside == concurrency


async def test_who_gives_up_a_turn_that_has_come_passes_the_place_on() -> None:
    gate = Gate(concurrency=1, queue=2)
    assert gate.enter()
    first, second = gate.wait(), gate.wait()
    gate.leave()
    assert first.done()
    gate.give_up(first)
    assert second.done()
    gate.leave()
    assert gate.inside == 0


@pytest.mark.parametrize(
    ("limits", "places", "runs", "waits"),
    [
        pytest.param({}, None, 10_000, 0, id="nothing is known, nothing is bounded"),
        pytest.param({}, 8, 8 + 32, 0, id="the engine's places, and four waiting for each"),
        pytest.param({"queue": 3}, 8, 11, 0, id="the engine's places and those who wait in it"),
        pytest.param({"concurrency": 2}, 8, 2, 8, id="four wait for each that runs"),
        pytest.param({"concurrency": 2, "queue": 0}, 8, 2, 0, id="nobody waits"),
        pytest.param({"concurrency": 2, "queue": 5}, None, 2, 5, id="as said"),
    ],
)
async def test_what_runs_and_what_waits(
    limits: dict[str, int], places: int | None, runs: int, waits: int
) -> None:
    gate = Limits.model_validate(limits).gate(places=places)
    assert sum(gate.enter() for _ in range(10_000)) == runs
    for _ in range(waits):
        gate.wait()
    with pytest.raises(FullError):
        gate.wait()
