"""How many replicas a demand needs: the worked examples, and that more never needs fewer."""

import math

import hypothesis
import pytest
from hypothesis import strategies as st

from slipstream_operator.core.scaling.models import sizing
from slipstream_operator.core.scaling.models.sizing import BatchLimits, Demand, Goal
from slipstream_operator.core.scaling.models.steptime import Coefficients

CHAT = Coefficients(0.007, 0.00007, 0.0, 32e-6)
"""beta and gamma*k together are 0.07 ms a sequence."""
CODE = Coefficients(0.007, 0.0001, 0.0, 32e-6)
AMPLE = BatchLimits()
TTFT, TPOT = Goal("ttft", 0.99, 1.0), Goal("tpot", 0.99, 0.04)


def _demand(rate: float, prompt: float = 1155.0, output: float = 211.0) -> Demand:
    return Demand(rate, rate * prompt, rate * output, context=prompt + output / 2)


def _replicas(demand: Demand, *goals: Goal, limits: BatchLimits = AMPLE, **options: int) -> int:
    return sizing.replicas(
        CHAT, demand, limits, goals, corrections={}, **{"start": 1, "most": 1000, **options}
    )


@pytest.mark.parametrize(
    ("model", "prompt", "output", "omega", "highest"),
    [(CHAT, 1155.0, 211.0, 0.052, 19.3), (CODE, 2048.0, 28.0, 0.068, 14.6)],
    ids=["chat", "code"],
)
def test_the_work_of_a_request(
    model: Coefficients, prompt: float, output: float, omega: float, highest: float
) -> None:
    work = sizing.work(model, _demand(1.0, prompt, output))
    assert work == pytest.approx(omega, rel=0.02)
    assert 1 / work == pytest.approx(highest, rel=0.02)


def test_a_mean_of_20_ms_per_token_is_a_utilization_of_65_percent() -> None:
    run = sizing.operate(CHAT, _demand(12.6), 1)
    assert run is not None
    assert run.utilization == pytest.approx(0.65, abs=0.005)
    assert run.step == pytest.approx(0.020, rel=0.02)
    assert run.batch == pytest.approx(53, abs=1)


def test_the_prefill_share_of_code() -> None:
    run = sizing.operate(CODE, _demand(9.5, 2048.0, 28.0), 1)
    assert run is not None
    assert run.step == pytest.approx(0.020, rel=0.03)
    assert run.prefill == pytest.approx(0.62, abs=0.01)


def test_a_batch_of_256_is_full_at_17_requests_per_second() -> None:
    run = sizing.operate(CHAT, _demand(17.4), 1)
    assert run is not None
    assert run.batch == pytest.approx(256, rel=0.05)


def test_an_overloaded_replica_has_no_steady_state() -> None:
    assert sizing.operate(CHAT, _demand(19.5), 1) is None


def test_nothing_needs_no_replica() -> None:
    assert _replicas(Demand(0.0, 0.0, 0.0, 0.0), TTFT, TPOT) == 0


def test_without_objectives_the_work_must_fit() -> None:
    assert _replicas(_demand(19.0)) == 2
    assert _replicas(_demand(18.0)) == 1


def test_a_small_kv_cache_needs_more_replicas() -> None:
    demand = _demand(60.0)
    ample, scarce = BatchLimits(kv_tokens=1_000_000), BatchLimits(kv_tokens=40_000)
    assert _replicas(demand, TTFT, limits=scarce) > _replicas(demand, TTFT, limits=ample)


def test_a_free_sequence_may_be_waited_for_but_a_full_cache_may_not() -> None:
    demand = _demand(60.0)
    sequences = BatchLimits(sequences=20)
    cache = BatchLimits(kv_tokens=math.ceil(20 * demand.context / sizing.KV_FULL))
    waits, preempts = (_replicas(demand, TTFT, limits=limits) for limits in (sequences, cache))
    assert _replicas(demand, TTFT) < waits < preempts


def test_prompts_queue_less_where_arrivals_are_spread_over_many() -> None:
    alone, many = (
        sizing.latency("ttft", 0.99, CHAT, _demand(10.0 * count), AMPLE, count) for count in (1, 10)
    )
    assert many < alone


def test_head_room_shrinks_with_size() -> None:
    few, many = _demand(18.0), _demand(900.0)
    per_work = [_replicas(one, TTFT, TPOT) / sizing.work(CHAT, one) for one in (few, many)]
    assert per_work[1] < per_work[0]


def test_a_model_that_is_too_optimistic_is_corrected() -> None:
    demand = _demand(60.0)
    corrected = sizing.replicas(
        CHAT, demand, BatchLimits(), (TPOT,), corrections={"tpot": 1.5}, start=1, most=100
    )
    assert corrected > _replicas(demand, TPOT)


@hypothesis.given(st.floats(0.1, 300.0), st.integers(1, 40), st.integers(1, 40))
def test_where_the_search_begins_changes_nothing(rate: float, one: int, other: int) -> None:
    found = [_replicas(_demand(rate), TTFT, TPOT, start=start) for start in (one, other)]
    assert found[0] == found[1]


@hypothesis.given(st.floats(0.1, 300.0), st.floats(1.0, 3.0), st.integers(1, 20))
def test_more_demand_never_needs_fewer(rate: float, factor: float, start: int) -> None:
    demand, limits = _demand(rate), BatchLimits(120_000, 256)
    few = _replicas(demand, TTFT, TPOT, limits=limits, start=start)
    assert _replicas(demand.scaled(factor), TTFT, TPOT, limits=limits, start=start) >= few


@pytest.mark.parametrize("metric", ["ttft", "tpot", "e2e"])
def test_more_replicas_are_never_slower(metric: str) -> None:
    found = [
        sizing.latency(metric, 0.95, CHAT, _demand(60.0), BatchLimits(120_000, 256), count)
        for count in range(1, 30)
    ]
    assert found == sorted(found, reverse=True)
