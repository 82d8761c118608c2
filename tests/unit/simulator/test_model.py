"""Properties of the engine model: nothing is lost, limits hold, merging changes nothing."""

import math
import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream_runtime.simulator import model, replay
from tests.support.workloads import workloads


@given(workloads())
@settings(deadline=None)
def test_every_request_gets_exactly_its_tokens_within_the_limits(
    workload: tuple[model.Parameters, list[model.Request]],
) -> None:
    parameters, requests = workload
    player = replay.Replay(model.Engine(parameters))
    seen: Counter[str] = Counter()
    before = 0.0
    for now, step in player.run(requests):
        assert now >= before + step.iterations * parameters.alpha * (1 - 1e-9)
        assert 0 <= player.engine.kv_used <= parameters.kv_tokens
        assert 1 <= step.running <= parameters.max_sequences
        shortest = parameters.alpha + parameters.beta * step.running
        shortest += parameters.gamma * step.kv_used + parameters.delta * step.prefilled
        assert step.shortest == pytest.approx(shortest)
        assert step.decoded + step.prefilled <= parameters.max_batched_tokens
        assert not (step.admitted and step.preempted)
        seen.update(tokens=step.tokens, prefilled=step.prefilled, preempted=len(step.preempted))
        before = now
    assert player.engine.idle
    assert player.engine.kv_used == player.engine.running == player.engine.waiting == 0
    assert len(player.outcomes) == len(requests)
    assert seen["tokens"] == sum(request.output for request in requests)
    computed = sum(request.prompt - request.cached for request in requests)
    assert seen["prefilled"] >= computed
    assert seen["preempted"] == player.engine.preemptions
    if not seen["preempted"]:
        assert seen["prefilled"] == computed
    for outcome in player.outcomes.values():
        assert outcome.admitted is not None
        assert outcome.first is not None
        assert outcome.finished is not None
        assert outcome.request.arrival <= outcome.admitted < outcome.first <= outcome.finished
        assert outcome.ttft >= parameters.alpha * (1 - 1e-9)
        least = (outcome.request.output - 1) * parameters.alpha
        assert outcome.finished - outcome.first >= least * (1 - 1e-9)


@given(workloads())
@settings(deadline=None)
def test_merged_iterations_are_the_same_as_single_ones(
    workload: tuple[model.Parameters, list[model.Request]],
) -> None:
    parameters, requests = workload
    merged, single = model.Engine(parameters), model.Engine(parameters)
    for request in requests:
        merged.add(request)
        single.add(request)
    while not merged.idle:
        step = merged.step(0.0, until=math.inf)
        parts = [single.step(0.0) for _ in range(step.iterations)]
        assert step.duration == pytest.approx(sum(part.duration for part in parts))
        assert step.shortest == pytest.approx(parts[0].duration)
        assert step.kv_used == parts[0].kv_used
        assert step.tokens == sum(part.tokens for part in parts)
        last = parts[-1]
        assert (step.first, step.finished) == (last.first, last.finished)
        assert (step.admitted, step.preempted) == (parts[0].admitted, last.preempted)
        assert (merged.kv_used, merged.running, merged.waiting) == (
            single.kv_used,
            single.running,
            single.waiting,
        )
    assert single.idle


@given(workloads(), st.floats(0, 2))
@settings(deadline=None)
def test_a_merge_ends_at_the_first_boundary_after_the_horizon(
    workload: tuple[model.Parameters, list[model.Request]], horizon: float
) -> None:
    parameters, requests = workload
    engine = model.Engine(parameters)
    for request in requests:
        engine.add(request)
    now = 0.0
    while not engine.idle and now < horizon:
        step = engine.step(now, until=horizon)
        last = step.shortest + step.growth * (step.iterations - 1)
        assert now + step.duration - last <= horizon + 1e-9
        now += step.duration


@given(workloads(), st.data())
@settings(deadline=None)
def test_cancelled_requests_leave_nothing_behind(
    workload: tuple[model.Parameters, list[model.Request]], data: st.DataObject
) -> None:
    parameters, requests = workload
    engine = model.Engine(parameters)
    for request in requests:
        engine.add(request)
    gone: set[int] = set()
    finished: set[object] = set()
    while not engine.idle:
        step = engine.step(0.0)
        finished.update(request.key for request in step.finished)
        key = data.draw(st.integers(0, len(requests) - 1))
        expected = key not in gone and key not in finished
        assert engine.cancel(key) is expected
        if expected:
            gone.add(key)
        assert 0 <= engine.kv_used <= parameters.kv_tokens
    assert engine.kv_used == engine.running == engine.waiting == 0
    assert gone | finished == set(range(len(requests)))


def test_the_newest_sequence_is_preempted_and_recomputed() -> None:
    engine = model.Engine(model.Parameters(kv_tokens=30, max_sequences=4, max_batched_tokens=64))
    engine.add(model.Request("old", 0.0, prompt=10, output=15))
    engine.add(model.Request("new", 0.0, prompt=10, output=15))
    steps = []
    while not engine.idle:
        steps.append(engine.step(0.0))
    assert [r.key for s in steps for r in s.preempted] == ["new"]
    assert [r.key for s in steps for r in s.finished] == ["old", "new"]
    resumed = next(s for s in steps if s.resumed)
    assert resumed.prefilled == 10 + 6  # its prompt and the tokens that it had
    assert engine.preemptions == 1


def test_a_long_prompt_is_computed_in_chunks_beside_the_decodes() -> None:
    engine = model.Engine(model.Parameters(max_batched_tokens=512))
    engine.add(model.Request("short", 0.0, prompt=100, output=50))
    assert engine.step(0.0).first
    engine.add(model.Request("long", 0.0, prompt=1200, output=2, cached=100))
    chunks = []
    while not (step := engine.step(0.0)).first:
        chunks.append(step.prefilled)
        assert step.decoded == 1
    assert [*chunks, step.prefilled] == [511, 511, 78]


def test_what_can_never_be_served_is_refused() -> None:
    engine = model.Engine(model.Parameters(kv_tokens=100))
    with pytest.raises(ValueError, match="more KV tokens"):
        engine.add(model.Request("big", 0.0, prompt=90, output=12))
    engine.add(model.Request("fits", 0.0, prompt=90, output=11))
    with pytest.raises(ValueError, match="already here"):
        engine.add(model.Request("fits", 0.0, prompt=1, output=1))
    with pytest.raises(ValueError, match="idle engine"):
        model.Engine(model.Parameters()).step(0.0)


@pytest.mark.parametrize(
    ("prompt", "output", "utilization"),
    [(1155, 211, 0.1), (1155, 211, 0.3), (1155, 211, 0.5), (161, 338, 0.3), (2048, 28, 0.05)],
)
def test_mean_latency_follows_the_closed_form(prompt: int, output: int, utilization: float) -> None:
    """tau = alpha/(1 - rate*omega), omega = delta*I + (beta + gamma*k)*O, to first order.

    With long prompts and few output tokens it is too low: whoever comes during a request's own
    prefill delays its decode, too.
    """
    parameters = model.Parameters()
    resident = prompt + output / 2
    per_token = parameters.beta + parameters.gamma * resident
    omega = parameters.delta * prompt + per_token * output
    rate = utilization / omega
    rng = random.Random(1)
    now, requests = 0.0, []
    for key in range(4000):
        now += rng.expovariate(rate)
        requests.append(model.Request(key, now, prompt, output))
    outcomes = replay.replay(parameters, requests)[500:]
    mean = sum(outcome.tpot for outcome in outcomes) / len(outcomes)
    assert mean == pytest.approx(parameters.alpha / (1 - utilization), rel=0.06)


def test_a_lone_request_takes_what_the_formula_says() -> None:
    parameters = replace(model.Parameters(), gamma=0.0)
    outcome = replay.replay(parameters, [model.Request("a", 1.0, prompt=1000, output=101)])[0]
    assert outcome.ttft == pytest.approx(
        parameters.alpha + parameters.beta + 1000 * parameters.delta
    )
    assert outcome.tpot == pytest.approx(parameters.alpha + parameters.beta)
    assert outcome.e2e == pytest.approx(outcome.ttft + 100 * outcome.tpot)
