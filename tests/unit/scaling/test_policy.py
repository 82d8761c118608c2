"""Decisions of the policy while the load is steady or grows."""

import dataclasses
from array import array
from typing import Any

import pytest

from slipstream_operator.core import histograms, objectives
from slipstream_operator.core.scaling.metrics.values import Unknown
from slipstream_operator.core.scaling.models.cycles import Cycles
from slipstream_operator.core.scaling.models.forecast import Outlook
from slipstream_operator.core.scaling.models.sizing import Demand
from slipstream_operator.core.scaling.models.spikes import Spikes
from slipstream_operator.core.scaling.state import State
from slipstream_operator.core.scaling.supply import PodStatus
from tests.support import given
from tests.support.decisions import FAST, QUIET, SLOW, decide, known, traffic

HELD: dict[str, tuple[State, dict[str, Any], int, str]] = {
    "a fixed count": (
        given.state(5),
        {"bounds": given.bounds(3, 3, follows_load=False), "readings": SLOW},
        3,
        "Fixed by spec.replicas.",
    ),
    "a stopped service": (
        given.state(5),
        {"bounds": given.bounds(0, 0, follows_load=False), "readings": SLOW},
        0,
        "Fixed by spec.replicas.",
    ),
    "paused": (
        given.state(5),
        {"bounds": given.bounds(paused=True), "readings": SLOW},
        5,
        "Paused by spec.scaling.paused.",
    ),
    "paused outside its bounds": (
        given.state(5),
        {"bounds": given.bounds(1, 3, paused=True)},
        3,
        "Paused by spec.scaling.paused.",
    ),
    "load unknown": (
        given.state(5),
        {"load": Unknown("no engine is ready")},
        5,
        "Holding 5 replicas: no engine is ready.",
    ),
    "asleep": (
        given.state(0),
        {"bounds": given.bounds(0, idle_after=600.0), "load": Unknown("no engine is ready")},
        0,
        "No request since the last replica stopped.",
    ),
    "woken": (
        given.state(0),
        {"bounds": given.bounds(0, idle_after=600.0), "load": Unknown("none"), "held": 2.0},
        1,
        "Requests wait for a first replica.",
    ),
}


@pytest.mark.parametrize(("state", "fields", "desired", "reason"), HELD.values(), ids=HELD)
def test_the_count_does_not_follow_load(
    state: State, fields: dict[str, Any], desired: int, reason: str
) -> None:
    found = decide(state, **fields)
    assert (found.desired, found.reason) == (desired, reason)


def test_a_lower_maximum_is_followed_at_once() -> None:
    assert decide(given.state(9), bounds=given.bounds(1, 3)).desired == 3


def test_a_higher_minimum_is_followed_at_once() -> None:
    assert decide(given.state(1), bounds=given.bounds(3, 9)).desired == 3


def test_more_work_than_the_engines_do_inside_the_objectives_orders_more() -> None:
    found = decide(known(1), load=traffic(15.0), readings=FAST)
    assert found.desired == 2
    assert "the load keeps 0.8 replicas busy" in found.reason


def test_without_objectives_only_saturation_counts() -> None:
    none: dict[str, Any] = {"objectives": objectives.Objectives(), "readings": ()}
    assert decide(known(1), load=traffic(10.0), **none).desired == 1
    assert decide(known(1), load=traffic(18.0), **none).desired == 2


def test_a_throughput_is_kept_ready_inside_the_objectives() -> None:
    wanted = objectives.Objectives((given.objective(),), throughput=12_000)
    found = decide(known(1), load=traffic(5.0), readings=FAST, objectives=wanted)
    assert found.desired >= 4
    assert "the throughput objective is 12000 tokens/s" in found.reason


def test_a_throughput_is_kept_ready_without_traffic() -> None:
    wanted = objectives.Objectives((given.objective(),), throughput=12_000)
    mix = Demand(1 / 211, 1155 / 211, 1.0, 1260.0)
    found = decide(known(1, mix=mix), load=traffic(0.0), readings=(), objectives=wanted)
    assert found.desired >= 4


def test_engines_that_start_are_supply() -> None:
    found = decide(known(3), ready=1, starting=2, load=traffic(15.0), readings=SLOW)
    assert found.desired == 3


def test_an_engine_without_a_step_time_is_scaled_by_latency() -> None:
    found = decide(given.state(2), ready=2, load=given.load(8.0), readings=SLOW)
    assert (found.desired, found.reason) == (
        4,
        "4 replicas needed: ttft-p95 is 1.00s, over its target of 500ms.",
    )


def test_how_busy_replicas_are_is_not_said_before_a_step_time_is_known() -> None:
    found = decide(given.state(1), load=given.load(2.0), readings=FAST)
    assert found.reason == "Keeping 1 replica: 2 requests in flight, step time not learned yet."


def test_one_request_is_not_called_requests() -> None:
    found = decide(given.state(1), load=given.load(1.0), readings=FAST)
    assert found.reason == "Keeping 1 replica: 1 request in flight, step time not learned yet."


def test_in_panic_the_step_has_no_limit() -> None:
    calm = traffic(150.0, pods=2, waiting=0.0)
    failing = traffic(150.0, pods=2, waiting=200.0, waiting_mean=100.0, preempted=1.0)
    found = [
        decide(known(2), ready=2, load=load, readings=FAST, bounds=given.bounds(1, 50)).desired
        for load in (calm, failing)
    ]
    assert found[0] == 6
    assert found[1] > 10


def test_maxreplicas_is_reached() -> None:
    found = decide(known(2), ready=2, load=traffic(90.0, pods=2), bounds=given.bounds(1, 2))
    assert found.desired == 2
    assert found.reason.endswith("maxReplicas is reached.")


def test_short_spikes_get_no_pods_once_they_are_known_to_be_short() -> None:
    spikes = Spikes(long=0.2, short=3.0, began=990.0, before=2)
    found = decide(known(2, spikes=spikes), ready=2, load=traffic(60.0, pods=2))
    assert found.desired == 2
    assert "such spikes end within" in found.reason


def _spiky(minutes: int) -> Outlook:
    """Outlook after one hour and `minutes`, with a spike every 15 minutes."""
    loads = [4.0 if minute % 15 == 0 else 1.0 for minute in range(60 + minutes)]
    seen = Cycles(began=1000.0, highest=1.0, minutes=array("f", loads).tobytes(), period=15)
    return Outlook(at=1000.0, level=1.0, cycles=seen, spread=0.0)


def test_a_spike_that_is_known_to_come_is_prepared_though_it_will_be_short() -> None:
    spikes = Spikes(long=0.2, short=3.0, began=990.0, before=2)
    early, late = (known(2, spikes=spikes, outlook=_spiky(minutes)) for minutes in (5, 13))
    options: dict[str, Any] = {"ready": 2, "load": traffic(18.0, pods=2)}
    assert decide(early, **options).desired == 2
    assert decide(late, **options).desired > 4


def test_between_two_known_spikes_older_needs_do_not_hold() -> None:
    needs = ((880.0, 6), (960.0, 2))
    unknown = known(6, needs=needs, watched_since=0.0)
    expected = dataclasses.replace(unknown, outlook=_spiky(3))
    options = {**QUIET, "ready": 6, "load": traffic(6.0, pods=6), "scale_down_window": 200.0}
    assert decide(unknown, **options).desired == 6
    assert decide(expected, **options).desired == 4


def test_one_hot_pod_adds_one_replica_at_most() -> None:
    calm = traffic(20.0, pods=4)
    hot = traffic(60.0, pods=1, waiting=300.0, waiting_mean=100.0).pods[0]
    load = dataclasses.replace(calm, pods=(*calm.pods[:3], hot))
    state, options = known(4), {"ready": 4, "readings": FAST, "bounds": given.bounds(1, 50)}
    assert decide(state, load=calm, **options).desired == 4
    assert decide(state, load=load, **options).desired <= 5


def test_while_engines_fail_to_start_no_more_are_ordered() -> None:
    failing = tuple(PodStatus(f"bad-{n}", 900.0, None, failed_starts=1) for n in range(2))
    found = decide(known(3), pods=(*given.supplied(1), *failing), load=traffic(60.0), readings=SLOW)
    assert found.desired == 3
    assert found.limited == "2 engines fail to start"
    assert found.reason.startswith("Keeping 3 of ")


def test_an_objective_below_what_an_idle_engine_needs_is_infeasible() -> None:
    late = dataclasses.replace(
        given.reading(current=0.06, target=0.02),
        now=histograms.from_buckets([(0.02, 0.0), (0.04, 50.0), (0.1, 100.0)]),
    )
    wanted = objectives.Objectives((late.objective,))
    found = decide(known(1), load=traffic(2.0), readings=(late,), objectives=wanted)
    assert found.desired == 1
    assert found.infeasible is not None
    assert found.infeasible.startswith("ttft-p95 is 60ms, and an engine without load needs ")
    assert "ask for" in found.infeasible


def test_without_a_step_time_one_request_that_is_too_slow_alone_is_infeasible() -> None:
    found = decide(given.state(4), ready=4, load=given.load(2.0), readings=SLOW)
    assert found.desired == 4
    assert found.infeasible == (
        "ttft-p95 is 1.00s with 0.5 requests in flight per replica: more replicas can't make one request "
        "faster than 500ms"
    )


def test_a_missed_objective_under_load_is_feasible() -> None:
    assert decide(given.state(4), ready=4, load=given.load(40.0), readings=SLOW).infeasible is None
