"""The scaling policy, case by case: the count and the sentence that explains it."""

from typing import Any

import pytest

from slipstream_operator.core.scaling import policy
from slipstream_operator.core.scaling.policy import Inputs, State
from slipstream_operator.core.scaling.signals import Unknown
from tests import given

SLOW = (given.reading(current=1.0, target=0.5),)
FAST = (given.reading(current=0.05, target=0.5),)
INCOMPLETE: dict[str, Any] = {"complete": False}  # such a load teaches nothing


def _decide(state: State, **fields: Any) -> policy.Decision:
    return policy.decide(given.inputs(**fields), state)[0]


HELD: dict[str, tuple[State, dict[str, Any], int, str]] = {
    "a fixed count": (
        given.state(5),
        {"bounds": given.bounds(3, 3, follows_load=False), "readings": SLOW},
        3,
        "spec.replicas says so",
    ),
    "a stopped service": (
        given.state(5),
        {"bounds": given.bounds(0, 0, follows_load=False), "readings": SLOW},
        0,
        "spec.replicas says so",
    ),
    "paused": (
        given.state(5),
        {"bounds": given.bounds(paused=True), "readings": SLOW},
        5,
        "spec.scaling.paused holds the count",
    ),
    "paused outside its bounds": (
        given.state(5),
        {"bounds": given.bounds(1, 3, paused=True)},
        3,
        "spec.scaling.paused holds the count",
    ),
    "load unknown": (
        given.state(5),
        {"load": Unknown("no engine is ready")},
        5,
        "holding 5: no engine is ready",
    ),
    "readings unknown": (
        given.state(5),
        {"readings": Unknown("Prometheus did not answer")},
        5,
        "holding 5: Prometheus did not answer",
    ),
}


@pytest.mark.parametrize(("state", "fields", "desired", "reason"), HELD.values(), ids=HELD)
def test_the_count_does_not_follow_load(
    state: State, fields: dict[str, Any], desired: int, reason: str
) -> None:
    found = _decide(state, **fields)
    assert (found.desired, found.reason) == (desired, reason)


UP: dict[str, tuple[State, dict[str, Any], int, str]] = {
    "more requests than the engines are known to carry": (
        given.state(2, capacity=5.0),
        {"ready": 2, "load": given.load(20.0, **INCOMPLETE)},
        5,
        "20 requests in flight, and one replica carries 5.0",
    ),
    "an objective is missed": (
        given.state(2),
        {"ready": 2, "load": given.load(**INCOMPLETE), "readings": SLOW},
        4,
        "ttft-p95 is 1.00s, over its target of 500ms",
    ),
    "the worst of several objectives counts": (
        given.state(2),
        {
            "ready": 2,
            "load": given.load(**INCOMPLETE),
            "readings": (given.reading(current=0.6), given.reading(current=0.75)),
        },
        3,
        "ttft-p95 is 750ms, over its target of 500ms",
    ),
    "the KV cache is nearly full": (
        given.state(2),
        {"ready": 2, "load": given.load(kv_usage=0.95, **INCOMPLETE)},
        3,
        "the KV cache is 95% full",
    ),
    "requests wait in every engine": (
        given.state(2),
        {"ready": 2, "load": given.load(waiting=2.0, **INCOMPLETE)},
        3,
        "2 requests wait in the engines",
    ),
    "a throughput is asked for": (
        given.state(2, tokens_capacity=100.0),
        {"ready": 2, "throughput": 350, "load": given.load(**INCOMPLETE)},
        4,
        "350 tokens/s are asked for, and one replica makes 100",
    ),
    "at most four more of a few": (
        given.state(1, capacity=1.0),
        {"load": given.load(90.0, **INCOMPLETE), "bounds": given.bounds(1, 100)},
        5,
        "90 requests in flight, and one replica carries 1.0",
    ),
    "at most twice as many of many": (
        given.state(10, capacity=1.0),
        {"load": given.load(90.0, **INCOMPLETE), "ready": 10, "bounds": given.bounds(1, 100)},
        20,
        "90 requests in flight, and one replica carries 1.0",
    ),
    "up to maxReplicas": (
        given.state(3, capacity=1.0),
        {"load": given.load(90.0, **INCOMPLETE), "bounds": given.bounds(1, 4)},
        4,
        "90 requests in flight, and one replica carries 1.0",
    ),
    "not beyond maxReplicas": (
        given.state(4, capacity=1.0),
        {"load": given.load(90.0, **INCOMPLETE), "bounds": given.bounds(1, 4)},
        4,
        "90 requests in flight, and one replica carries 1.0; maxReplicas is reached",
    ),
}


@pytest.mark.parametrize(("state", "fields", "desired", "reason"), UP.values(), ids=UP)
def test_the_count_grows(state: State, fields: dict[str, Any], desired: int, reason: str) -> None:
    found = _decide(state, **fields)
    assert (found.desired, found.reason, found.known) == (desired, reason, True)


STAYS: dict[str, tuple[State, dict[str, Any], str]] = {
    "engines carry the load": (
        given.state(2, capacity=5.0),
        {"ready": 2, "load": given.load(8.0, **INCOMPLETE)},
        "2 carry 8 requests in flight",
    ),
    "the first order has not arrived yet": (
        given.state(3),
        {"ready": 1, "starting": 2, "load": given.load(9.0, waiting=5.0), "readings": SLOW},
        "3 stay: 1 would do, but a lower need must last 300 s",
    ),
    "too few requests to judge by": (
        given.state(2),
        {
            "ready": 2,
            "load": given.load(**INCOMPLETE),
            "readings": (given.reading(current=9.0, requests=4.0),),
        },
        "2 stay: 1 would do, but a lower need must last 300 s",
    ),
    "no traffic": (
        given.state(2),
        {
            "ready": 2,
            "load": given.load(0.0),
            "readings": (given.reading(current=None, requests=0.0),),
        },
        "2 stay: 1 would do, but a lower need must last 300 s",
    ),
    "engines that start carry it soon": (
        given.state(4, capacity=5.0),
        {"ready": 1, "starting": 3, "load": given.load(18.0)},
        "4 carry 18 requests in flight, 3 starting",
    ),
}


@pytest.mark.parametrize(("state", "fields", "reason"), STAYS.values(), ids=STAYS)
def test_the_count_stays(state: State, fields: dict[str, Any], reason: str) -> None:
    found = _decide(state, **fields)
    assert (found.desired, found.reason) == (state.desired, reason)


WINDOW = ((600.0, 1), (900.0, 1))
"""Needs that cover the window of 300 s before `now`, which is 1000."""
QUIET: dict[str, Any] = {"ready": 4, "load": given.load(1.0, mean=1.0), "readings": FAST}


@pytest.mark.parametrize(
    ("current", "expected"), [(4, 3), (10, 8), (2, 1)], ids=["one", "a fifth", "to minReplicas"]
)
def test_the_count_shrinks_in_careful_steps(current: int, expected: int) -> None:
    found = _decide(given.state(current, needs=WINDOW), **{**QUIET, "ready": current})
    assert (found.desired, found.reason) == (
        expected,
        "1 were enough for 300 s (1 requests in flight)",
    )


def test_a_lower_maximum_is_followed_at_once() -> None:
    assert _decide(given.state(9), bounds=given.bounds(1, 3)).desired == 3


def test_a_higher_minimum_is_followed_at_once() -> None:
    assert _decide(given.state(1), bounds=given.bounds(3, 9)).desired == 3


AGAINST: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "the need was not watched for a whole window": (
        {"needs": ((800.0, 1),)},
        {},
        "1 would do, but a lower need must last 300 s",
    ),
    "not every engine reports": (
        {},
        {"load": given.load(1.0, complete=False)},
        "1 would do, but not every engine reports",
    ),
    "engines are starting": ({}, {"starting": 1}, "1 would do, but engines are starting"),
    "a rollout is under way": ({}, {"rolling": True}, "1 would do, but engines are starting"),
    "requests wait": (
        {},
        {"load": given.load(1.0, waiting=1.0)},
        "1 would do, but requests wait",
    ),
    "latency is near its target": (
        {},
        {"readings": (given.reading(current=0.34),)},
        "1 would do, but latency would come near its target",
    ),
    "the last step was just now": (
        {"since": 990.0},
        {},
        "1 would do, but steps down are 60 s apart",
    ),
}


@pytest.mark.parametrize(
    ("state", "fields", "reason"),
    AGAINST.values(),
    ids=AGAINST,
)
def test_the_count_does_not_shrink_yet(
    state: dict[str, Any], fields: dict[str, Any], reason: str
) -> None:
    found = _decide(given.state(4, **{"needs": WINDOW, **state}), **{**QUIET, **fields})
    assert (found.desired, found.reason) == (4, f"4 stay: {reason}")


def test_a_step_down_stops_at_the_highest_need_of_the_window() -> None:
    needs = ((600.0, 1), (900.0, 9))
    assert _decide(given.state(10, needs=needs), **{**QUIET, "ready": 10}).desired == 9


def test_one_request_that_is_too_slow_alone_is_infeasible_and_orders_nothing() -> None:
    found = _decide(given.state(4), ready=4, load=given.load(2.0), readings=SLOW)
    assert found.desired == 4
    assert found.infeasible == (
        "ttft-p95 is 1.00s with 0.5 requests in flight per replica: more replicas can't make one request "
        "faster than 500ms"
    )


def test_a_missed_objective_under_load_is_feasible() -> None:
    assert _decide(given.state(4), ready=4, load=given.load(40.0), readings=SLOW).infeasible is None


def _learned(state: State, **fields: Any) -> State:
    return policy.decide(given.inputs(**fields), state)[1]


def test_the_first_estimate_of_capacity_is_taken_as_it_is() -> None:
    found = _learned(given.state(2), ready=2, load=given.load(20.0), readings=SLOW)
    assert found.capacity == pytest.approx(10.0 / 2.0)  # carried per replica, at twice the target


def test_later_estimates_are_followed_slowly() -> None:
    state = given.state(2, capacity=20.0)
    found = _learned(state, ready=2, load=given.load(20.0), readings=SLOW)
    assert found.capacity == pytest.approx(20.0 + 0.3 * (5.0 - 20.0))


def test_what_is_carried_inside_the_targets_is_capacity() -> None:
    state = given.state(2, capacity=2.0)
    found = _learned(state, ready=2, load=given.load(20.0), readings=(given.reading(current=0.5),))
    assert found.capacity == pytest.approx(10.0)


def test_tokens_are_learned_only_from_busy_replicas_inside_the_targets() -> None:
    load = given.load(20.0, tokens_per_second=300.0)
    busy = (given.reading(current=0.3, target=0.5),)
    found = [
        _learned(given.state(2), ready=2, load=load, readings=readings).tokens_capacity
        for readings in (FAST, busy, SLOW)
    ]
    assert found == [None, 150.0, None]


@pytest.mark.parametrize(
    "fields",
    [
        {"load": given.load(20.0, complete=False)},
        {"starting": 1},
        {"load": given.load(20.0, mean=0.5)},
        {"load": given.load(20.0, kv_usage=0.0), "readings": ()},
    ],
    ids=["incomplete", "starting", "idle", "nothing presses"],
)
def test_nothing_is_learned_from(fields: dict[str, Any]) -> None:
    state = given.state(2, capacity=7.0)
    found = _learned(state, **{"load": given.load(20.0), "readings": SLOW, **fields})
    assert found.capacity == 7.0


def test_a_decision_is_remembered_with_its_time_and_reason() -> None:
    decision, state = policy.decide(
        given.inputs(readings=SLOW, load=given.load(complete=False)), given.state(1)
    )
    assert (state.desired, state.since, state.reason) == (2, 1000.0, decision.reason)


def test_a_count_that_stays_keeps_its_time_and_reason() -> None:
    before = given.state(1, since=5.0, reason="why")
    _, state = policy.decide(given.inputs(), before)
    assert (state.since, state.reason) == (5.0, "why")


def test_after_missing_data_a_whole_new_window_must_be_watched() -> None:
    inputs: Inputs = given.inputs(**{**QUIET, "load": Unknown("no data")})
    assert policy.decide(inputs, given.state(4, needs=WINDOW))[1].needs == ()


def test_a_service_at_zero_is_woken_to_one_and_says_why() -> None:
    decision, state = policy.woken(given.state(0, capacity=4.0), now=1000.0)
    assert (decision.desired, decision.known) == (1, True)
    assert (state.desired, state.since, state.capacity) == (1, 1000.0, 4.0)
    assert decision.reason == state.reason == "requests wait for a first replica"


def test_what_runs_is_not_woken_to_less() -> None:
    state = given.state(3)
    decision, after = policy.woken(state, now=1000.0)
    assert decision.desired == 3
    assert after == state


def test_a_service_that_may_be_at_zero_is_not_taken_there_by_low_load() -> None:
    state = given.state(1, needs=((0.0, 0),))
    inputs = given.inputs(bounds=given.bounds(0), load=given.load(0.0))
    decision, _ = policy.decide(inputs, state)
    assert decision.desired == 1
