"""Demand is what clients ask for, not what is served."""

from typing import Any

import pytest

from slipstream_operator.core.scaling import demand
from slipstream_operator.core.scaling.metrics.values import Load
from slipstream_operator.core.scaling.models.sizing import Demand
from tests.support import given

WINDOW = 60.0
SERVED: dict[str, Any] = {
    "output": 1000.0, "prompt": 5000.0, "started": 5.0, "finished": 5.0, "steps": 50.0,
    "itl_sum": 20.0, "itl_count": 995.0,
}  # fmt: skip


def _load(*pods: Any, **fields: Any) -> Load:
    return Load(pods=pods, complete=True, **fields)


def test_in_steady_state_demand_is_the_served_load() -> None:
    found = demand.estimate(_load(given.pod_load(20.0, **SERVED)), window=WINDOW)
    assert (found.requests, found.prompt, found.output) == (5.0, 5000.0, 1000.0)


def test_a_growing_queue_is_demand() -> None:
    pod = given.pod_load(20.0, waiting=300.0, waiting_mean=150.0, **SERVED)
    found = demand.estimate(_load(pod), window=WINDOW)
    assert found.requests == pytest.approx(5.0 + 2 * 150.0 / WINDOW, rel=0.1)
    assert found.prompt / found.requests == pytest.approx(1000.0)


def test_a_shrinking_queue_is_no_demand_but_work_that_is_done_is() -> None:
    pod = given.pod_load(20.0, waiting=0.0, waiting_mean=150.0, **SERVED)
    assert demand.estimate(_load(pod), window=WINDOW).requests == 5.0


def test_rejected_requests_are_demand() -> None:
    pod = given.pod_load(20.0, rejected=4.0, **SERVED)
    assert demand.estimate(_load(pod), window=WINDOW).requests > 8.0


def test_the_routers_count_is_demand() -> None:
    found = demand.estimate(_load(given.pod_load(20.0, **SERVED), arrivals=12.0), window=WINDOW)
    assert found.requests == pytest.approx(12.0, rel=0.05)


def test_a_jump_shows_in_the_routers_newest_count() -> None:
    load = _load(given.pod_load(20.0, **SERVED), arrivals=8.0, surge=40.0)
    found = demand.estimate(load, window=WINDOW).requests
    assert found == pytest.approx(40.0 - 2 * (40.0 / 30.0) ** 0.5)


def test_a_queue_that_is_worked_off_is_no_demand_where_the_router_counts() -> None:
    draining = given.pod_load(20.0, waiting=50.0, waiting_mean=140.0, **SERVED)
    assert demand.estimate(_load(draining), window=WINDOW).requests == 5.0
    found = demand.estimate(_load(draining, arrivals=2.5), window=WINDOW)
    assert found.requests == pytest.approx(2.5)
    assert found.output / found.requests == pytest.approx(200.0)


def test_a_router_that_counts_too_little_does_not_lower_demand() -> None:
    steady = given.pod_load(20.0, waiting=50.0, waiting_mean=50.0, **SERVED)
    assert demand.estimate(_load(steady, arrivals=2.5), window=WINDOW).requests == 5.0


def test_requests_that_no_engine_has_begun_are_like_those_before() -> None:
    usual = Demand(requests=2.0, prompt=2000.0, output=400.0, context=900.0)
    found = demand.estimate(_load(arrivals=10.0), window=WINDOW, usual=usual)
    assert found == usual.scaled(5.0)


def test_some_of_those_who_left_ask_again() -> None:
    asked = Demand(requests=100.0, prompt=2000.0, output=400.0, context=900.0)
    assert demand.first_attempts(asked, _load(cancelled=40.0)).requests == pytest.approx(80.0)
    assert demand.first_attempts(asked, _load()) == asked


def test_answers_that_are_still_to_come_are_demand() -> None:
    pod = given.pod_load(20.0, **SERVED)
    found = demand.estimate(_load(pod, output_length=500.0), window=WINDOW)
    assert found.output == pytest.approx(5.0 * 500.0 / 1.15)


def test_without_conservation_only_served_requests_count() -> None:
    pod = given.pod_load(20.0, waiting=300.0, waiting_mean=150.0, **SERVED)
    assert demand.estimate(_load(pod), window=WINDOW, conserve=False).requests == 5.0


def test_the_context_of_a_request_is_its_share_of_the_kv_cache() -> None:
    load = _load(given.pod_load(20.0, kv=0.25), kv_tokens=80_000)
    assert demand.context(load) == 1000.0


def test_without_a_known_kv_cache_the_context_is_half_an_answer_after_the_prompt() -> None:
    load = _load(given.pod_load(20.0), prompt_length=900.0, output_length=200.0)
    assert demand.context(load) == 1000.0


def test_a_steady_engine_tells_its_step_time() -> None:
    load = _load(given.pod_load(20.0, kv=0.25, **SERVED), kv_tokens=80_000)
    (seen,) = demand.observations(load, window=WINDOW)
    assert (seen.batch, seen.context, seen.prompt) == (20.0, 20_000.0, 100.0)
    assert seen.seconds == pytest.approx(20.0 / 995.0)


@pytest.mark.parametrize(
    "changed",
    [
        {"settled": False},
        {"preempted": 0.1},
        {"itl_count": 0.1},
        {"steps": 0.0},
        {"running_mean": 3.0},
    ],
    ids=["new", "out of memory", "hardly used", "no steps counted", "load jumps"],
)
def test_nothing_is_learned_from(changed: dict[str, Any]) -> None:
    load = _load(given.pod_load(20.0, **{**SERVED, **changed}))
    assert demand.observations(load, window=WINDOW) == ()


def test_one_busy_pod_among_idle_ones_is_an_outlier() -> None:
    calm, hot = given.pod_load(2.0), given.pod_load(50.0)
    found = demand.without_outlier(_load(calm, hot, calm))
    assert found is not None
    assert found.in_flight == 6.0


def test_pods_alike_have_no_outlier() -> None:
    assert demand.without_outlier(_load(given.pod_load(5.0), given.pod_load(6.0))) is None
    assert demand.without_outlier(_load(given.pod_load(50.0))) is None
