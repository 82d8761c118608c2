"""Causes of slow requests in mixed load, against what happens without the cause.

A request's true cause is found by taking each cause away: the same requests run again without the prompts of others,
with room for all, or with a KV cache that never fills up.
"""

import asyncio
import dataclasses
import random
from collections.abc import Sequence

import pytest

from slipstream_runtime.recording.times import CAUSES
from slipstream_runtime.recording.visits import CURRENT, Visit
from slipstream_runtime.simulator import metrics, model, pace
from tests.support.loops import JumpingLoop

PARAMETERS = model.Parameters(
    alpha=0.01, beta=0.0001, gamma=0.0, delta=0.0001, kv_tokens=20_000, max_sequences=8
)
CLEAR = 1.25
"""Multiple of the second largest part from which the largest one is the cause."""


@dataclasses.dataclass(frozen=True)
class Ask:
    at: float
    prompt: int
    output: int


@dataclasses.dataclass(frozen=True)
class Ended:
    took: float
    parts: dict[str, float]


def _run(asks: Sequence[Ask], parameters: model.Parameters = PARAMETERS) -> list[Ended]:
    """Return the end of each request, in a time that jumps."""

    async def ask(paced: pace.Pace, one: Ask) -> Ended:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(one.at)
        visit = Visit("", arrived=loop.time(), known_prefix=None)
        CURRENT.set(visit)
        stream = paced.add(prompt=one.prompt, output=one.output, reason="length")
        await stream.end()
        closed = visit.close(loop.time())
        assert sum(closed.parts) == pytest.approx(closed.took)
        return Ended(closed.took, dict(zip(map(str, CAUSES), closed.parts, strict=True)))

    async def main() -> list[Ended]:
        observer = metrics.Metrics(model_name="m", kv_tokens=parameters.kv_tokens)
        paced = pace.Pace(model.Engine(parameters), observer=observer)
        running = asyncio.create_task(paced.run())
        found = await asyncio.gather(*(ask(paced, one) for one in asks))
        running.cancel()
        return list(found)

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(main())


def _truth(asks: Sequence[Ask], number: int, *, took: float, roomy: float) -> dict[str, float]:
    """Return the seconds of a request that go away with each cause; `roomy` is its time with a slot for all."""
    one = asks[number]
    quiet = [
        each if at == number else dataclasses.replace(each, prompt=1)
        for at, each in enumerate(asks)
    ]
    alone, short = (
        _run([dataclasses.replace(one, at=0.0, output=output)])[0].took
        for output in (one.output, 1)
    )
    return {
        "others_prefill": took - _run(quiet)[number].took,
        "queue": took - roomy,
        "prefill": short,
        "decode": alone - short,
    }


def _mixed(seed: int) -> list[Ask]:
    """Return requests with short and long prompts and answers, in bursts."""
    draw = random.Random(seed)
    at, asks = 0.0, []
    for _ in range(40):
        at += draw.choice((0.0, 0.02, 0.5, 1.5))
        asks.append(Ask(at, draw.choice((20, 200, 3000)), draw.choice((1, 5, 60))))
    return asks


def test_in_mixed_load_the_largest_part_is_the_cause_that_counts_most() -> None:
    right, judged = 0, 0
    for seed in range(3):
        asks = _mixed(seed)
        found = _run(asks)
        roomy = _run(asks, dataclasses.replace(PARAMETERS, max_sequences=512))
        for number in range(len(asks)):
            truth = _truth(asks, number, took=found[number].took, roomy=roomy[number].took)
            first, second = sorted(truth.values(), reverse=True)[:2]
            if first < CLEAR * max(second, 0.0):
                continue  # two causes of the same size: either answer is right
            judged += 1
            parts = {cause: found[number].parts[cause] for cause in truth}
            right += max(parts, key=lambda each: parts[each]) == max(
                truth, key=lambda each: truth[each]
            )
    assert judged >= 60
    assert right >= 0.95 * judged, (right, judged)


def test_what_slots_delay_is_queueing() -> None:
    parameters = dataclasses.replace(PARAMETERS, max_sequences=1)
    last = _run([Ask(0.0, 20, 100), Ask(0.1, 20, 5)], parameters)[-1]
    assert max(last.parts, key=lambda each: last.parts[each]) == "queue"


def test_a_request_that_loses_its_cache_waits_for_preemption() -> None:
    parameters = dataclasses.replace(PARAMETERS, kv_tokens=260)
    first, last = _run([Ask(0.0, 100, 150), Ask(0.1, 100, 40)], parameters)
    assert first.parts["preemption"] == 0
    assert max(last.parts, key=lambda each: last.parts[each]) == "preemption"


def test_decoding_that_long_prompts_interrupt_is_slowed_by_them() -> None:
    prompts = [Ask(0.2 + number * 0.2, 2000, 1) for number in range(20)]
    decoding, *_ = _run([Ask(0.0, 20, 100), *prompts])
    alone, *_ = _run([Ask(0.0, 20, 100)])
    lost = decoding.took - alone.took
    assert decoding.parts["others_prefill"] == pytest.approx(lost, rel=0.1)
