"""The scaling policy, case by case: the count and the sentence that explains it."""

import dataclasses
from array import array
from typing import Any

import pytest

from slipstream_operator.core import histograms, objectives
from slipstream_operator.core.scaling import policy
from slipstream_operator.core.scaling.inputs import Inputs
from slipstream_operator.core.scaling.metrics.values import Load, Unknown
from slipstream_operator.core.scaling.models import forecast, steptime
from slipstream_operator.core.scaling.models.coldstart import ColdStart
from slipstream_operator.core.scaling.models.cycles import Cycles
from slipstream_operator.core.scaling.models.feedback import Feedback
from slipstream_operator.core.scaling.models.forecast import Outlook
from slipstream_operator.core.scaling.models.sizing import Demand
from slipstream_operator.core.scaling.models.spikes import Spikes
from slipstream_operator.core.scaling.models.steptime import Row
from slipstream_operator.core.scaling.state import Decision, State
from slipstream_operator.core.scaling.supply import PodStatus
from tests.support import given

MODEL = steptime.fit((Row(20.0, 1.0, 1200.0, 5.0, 0.0074), Row(20.0, 60.0, 72000.0, 300.0, 0.0221)))
"""About 7 ms a step, and a little more for each sequence, its context and new prompts."""
SLOW = (given.reading(current=1.0, target=0.5),)
FAST = (given.reading(current=0.05, target=0.5),)


def _known(desired: int, **fields: Any) -> State:
    """A state that knows the step time and how long starts take."""
    known = {"model": MODEL, "cold": ColdStart(5.0, 4.5, 0.01)}
    return given.state(desired, **{**known, **fields})


def _traffic(rate: float, *, pods: int = 1, **changed: Any) -> Load:
    """Requests of 1155 prompt and 211 output tokens, the same on each pod, in steady state."""
    each = rate / pods
    busy = min(each * 0.055, 0.97)
    step = 0.007 / (1 - busy)
    batch = each * 211 * step
    pod = given.pod_load(
        batch,
        **{
            "kv": min(batch * 1260 / 120_000, 1.0),
            "output": each * 211,
            "prompt": each * 1155,
            "started": each,
            "finished": each,
            "steps": 1 / step,
            "itl_sum": each * 210 * step,
            "itl_count": each * 210,
            **changed,
        },
    )
    return Load(
        pods=(pod,) * pods,
        complete=True,
        output_length=211.0,
        prompt_length=1155.0,
        kv_tokens=120_000,
    )


def _decide(state: State, **fields: Any) -> Decision:
    return policy.decide(given.inputs(**fields), state)[0]


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
    found = _decide(state, **fields)
    assert (found.desired, found.reason) == (desired, reason)


def test_a_lower_maximum_is_followed_at_once() -> None:
    assert _decide(given.state(9), bounds=given.bounds(1, 3)).desired == 3


def test_a_higher_minimum_is_followed_at_once() -> None:
    assert _decide(given.state(1), bounds=given.bounds(3, 9)).desired == 3


def test_more_work_than_the_engines_do_inside_the_objectives_orders_more() -> None:
    found = _decide(_known(1), load=_traffic(15.0), readings=FAST)
    assert found.desired == 2
    assert "the load keeps 0.8 replicas busy" in found.reason


def test_without_objectives_only_saturation_counts() -> None:
    none: dict[str, Any] = {"objectives": objectives.Objectives(), "readings": ()}
    assert _decide(_known(1), load=_traffic(10.0), **none).desired == 1
    assert _decide(_known(1), load=_traffic(18.0), **none).desired == 2


def test_a_throughput_is_kept_ready_inside_the_objectives() -> None:
    wanted = objectives.Objectives((given.objective(),), throughput=12_000)
    found = _decide(_known(1), load=_traffic(5.0), readings=FAST, objectives=wanted)
    assert found.desired >= 4
    assert "the throughput objective is 12000 tokens/s" in found.reason


def test_a_throughput_is_kept_ready_without_traffic() -> None:
    wanted = objectives.Objectives((given.objective(),), throughput=12_000)
    mix = Demand(1 / 211, 1155 / 211, 1.0, 1260.0)
    found = _decide(_known(1, mix=mix), load=_traffic(0.0), readings=(), objectives=wanted)
    assert found.desired >= 4


def test_engines_that_start_are_supply() -> None:
    found = _decide(_known(3), ready=1, starting=2, load=_traffic(15.0), readings=SLOW)
    assert found.desired == 3


def test_an_engine_without_a_step_time_is_scaled_by_latency() -> None:
    found = _decide(given.state(2), ready=2, load=given.load(8.0), readings=SLOW)
    assert (found.desired, found.reason) == (
        4,
        "4 replicas needed: ttft-p95 is 1.00s, over its target of 500ms.",
    )


def test_how_busy_replicas_are_is_not_said_before_a_step_time_is_known() -> None:
    found = _decide(given.state(1), load=given.load(2.0), readings=FAST)
    assert found.reason == "Keeping 1 replica: 2 requests in flight, step time not learned yet."


def test_one_request_is_not_called_requests() -> None:
    found = _decide(given.state(1), load=given.load(1.0), readings=FAST)
    assert found.reason == "Keeping 1 replica: 1 request in flight, step time not learned yet."


def test_in_panic_the_step_has_no_limit() -> None:
    calm = _traffic(150.0, pods=2, waiting=0.0)
    failing = _traffic(150.0, pods=2, waiting=200.0, waiting_mean=100.0, preempted=1.0)
    found = [
        _decide(_known(2), ready=2, load=load, readings=FAST, bounds=given.bounds(1, 50)).desired
        for load in (calm, failing)
    ]
    assert found[0] == 6
    assert found[1] > 10


def test_maxreplicas_is_reached() -> None:
    found = _decide(_known(2), ready=2, load=_traffic(90.0, pods=2), bounds=given.bounds(1, 2))
    assert found.desired == 2
    assert found.reason.endswith("maxReplicas is reached.")


def test_short_spikes_get_no_pods_once_they_are_known_to_be_short() -> None:
    spikes = Spikes(long=0.2, short=3.0, began=990.0, before=2)
    found = _decide(_known(2, spikes=spikes), ready=2, load=_traffic(60.0, pods=2))
    assert found.desired == 2
    assert "such spikes end within" in found.reason


def _spiky(minutes: int) -> Outlook:
    """An hour with a spike each 15 minutes, and so many more."""
    loads = [4.0 if minute % 15 == 0 else 1.0 for minute in range(60 + minutes)]
    seen = Cycles(began=1000.0, highest=1.0, minutes=array("f", loads).tobytes(), period=15)
    return Outlook(at=1000.0, level=1.0, cycles=seen, spread=0.0)


def test_a_spike_that_is_known_to_come_is_prepared_though_it_will_be_short() -> None:
    spikes = Spikes(long=0.2, short=3.0, began=990.0, before=2)
    early, late = (_known(2, spikes=spikes, outlook=_spiky(minutes)) for minutes in (5, 13))
    options: dict[str, Any] = {"ready": 2, "load": _traffic(18.0, pods=2)}
    assert _decide(early, **options).desired == 2
    assert _decide(late, **options).desired > 4


def test_between_two_known_spikes_older_needs_do_not_hold() -> None:
    needs = ((880.0, 6), (960.0, 2))
    unknown = _known(6, needs=needs, watched_since=0.0)
    known = dataclasses.replace(unknown, outlook=_spiky(3))
    options = {**QUIET, "ready": 6, "load": _traffic(6.0, pods=6), "scale_down_window": 200.0}
    assert _decide(unknown, **options).desired == 6
    assert _decide(known, **options).desired == 4


def test_one_hot_pod_adds_one_replica_at_most() -> None:
    calm = _traffic(20.0, pods=4)
    hot = _traffic(60.0, pods=1, waiting=300.0, waiting_mean=100.0).pods[0]
    load = dataclasses.replace(calm, pods=(*calm.pods[:3], hot))
    state, options = _known(4), {"ready": 4, "readings": FAST, "bounds": given.bounds(1, 50)}
    assert _decide(state, load=calm, **options).desired == 4
    assert _decide(state, load=load, **options).desired <= 5


def test_while_engines_fail_to_start_no_more_are_ordered() -> None:
    failing = tuple(PodStatus(f"bad-{n}", 900.0, None, failed_starts=1) for n in range(2))
    found = _decide(
        _known(3), pods=(*given.supplied(1), *failing), load=_traffic(60.0), readings=SLOW
    )
    assert found.desired == 3
    assert found.limited == "2 engines fail to start"
    assert found.reason.startswith("Keeping 3 of ")


def test_pods_without_a_place_do_not_stop_a_step_down() -> None:
    pending = PodStatus("pending", 100.0, None, scheduled=False)
    found = _decide(
        _known(4, needs=WINDOW, watched_since=0.0),
        **{**QUIET, "pods": (*given.supplied(3), pending)},
    )
    assert (found.desired, found.limited) == (3, "1 pod is unschedulable")


WINDOW = ((701.0, 1),)
"""A need inside the window of 300 s before `now`, which is 1000."""
QUIET: dict[str, Any] = {"ready": 4, "load": _traffic(2.0, pods=4), "readings": FAST}


@pytest.mark.parametrize(
    ("current", "expected"), [(4, 3), (10, 7), (2, 1)], ids=["one", "a third", "to minReplicas"]
)
def test_the_count_shrinks_in_careful_steps(current: int, expected: int) -> None:
    state = _known(current, needs=WINDOW, watched_since=0.0)
    load = _traffic(2.0, pods=current)
    found = _decide(state, **{**QUIET, "ready": current, "load": load})
    assert (found.desired, found.reason) == (expected, "1 replica was enough for 300 s.")


AGAINST: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "the need was not watched for a whole window": (
        {"watched_since": 800.0},
        {},
        "1 would be enough, but a lower need must last 300 s",
    ),
    "a step down was wrong not long ago": (
        {"caution": 2.0, "watched_since": 500.0},
        {},
        "1 would be enough, but a lower need must last 600 s",
    ),
    "not every engine reports": (
        {},
        {"load": dataclasses.replace(_traffic(2.0, pods=4), complete=False)},
        "1 would be enough, but not every engine reports",
    ),
    "latency is not known": (
        {},
        {"readings": Unknown("refused")},
        "1 would be enough, but not every engine reports",
    ),
    "engines that are needed are starting": (
        {"needs": ((710.0, 1), (900.0, 3))},
        {"ready": 2, "starting": 2},
        "3 would be enough, but engines are starting",
    ),
    "a rollout is under way": (
        {},
        {"rolling": True},
        "1 would be enough, but engines are starting",
    ),
    "requests wait": (
        {},
        {"load": _traffic(2.0, pods=4, waiting=1.0)},
        "1 would be enough, but requests wait",
    ),
    "the last step was just now": (
        {"since": 990.0},
        {},
        "1 would be enough, but steps down are 30 s apart",
    ),
}


@pytest.mark.parametrize(("state", "fields", "reason"), AGAINST.values(), ids=AGAINST)
def test_the_count_does_not_shrink_yet(
    state: dict[str, Any], fields: dict[str, Any], reason: str
) -> None:
    before = _known(4, **{"needs": WINDOW, "watched_since": 0.0, **state})
    found = _decide(before, **{**QUIET, **fields})
    assert (found.desired, found.reason) == (4, f"Keeping 4 replicas: {reason}.")


def test_while_load_falls_beyond_doubt_older_needs_do_not_hold() -> None:
    outlook = Outlook()
    for step in range(20, -1, -1):
        now = 1000.0 - forecast.STEP * step
        outlook = forecast.update(outlook, 1.0 + 0.2 * step, now=now, horizon=180.0)
    state = _known(10, needs=((710.0, 10), (900.0, 4)), watched_since=0.0)
    falls = dataclasses.replace(state, outlook=outlook)
    options = {**QUIET, "ready": 10, "load": _traffic(2.0, pods=10)}
    assert _decide(state, **options).desired == 10
    assert _decide(falls, **options).desired == 7


def test_a_step_down_stops_at_the_highest_need_of_the_window() -> None:
    state = _known(10, needs=((710.0, 1), (900.0, 9)), watched_since=0.0)
    load = _traffic(2.0, pods=10)
    assert _decide(state, **{**QUIET, "ready": 10, "load": load}).desired == 9


def test_a_step_down_that_was_wrong_is_taken_back() -> None:
    missed = dataclasses.replace(
        given.reading(current=0.9),
        now=histograms.from_buckets([(0.25, 100.0), (0.5, 300.0), (1.0, 500.0)]),
        requests=500.0,
    )
    state = _known(3, lowered_at=950.0, lowered_from=4, watched_since=0.0)
    found, after = policy.decide(
        given.inputs(ready=3, load=_traffic(27.0, pods=3), readings=(missed,)), state
    )
    assert found.desired == 4
    assert after.caution > state.caution


@pytest.mark.parametrize(("ago", "expected"), [(200.0, 2.0), (400.0, 1.0)])
def test_a_step_down_that_had_to_be_undone_soon_makes_the_next_one_wait_longer(
    ago: float, expected: float
) -> None:
    state = _known(1, lowered_at=1000.0 - ago, lowered_from=2, learned_at=1000.0)
    found, after = policy.decide(given.inputs(load=_traffic(15.0), readings=FAST), state)
    assert (found.desired, after.caution) == (2, expected)


IDLE = dataclasses.replace(_traffic(0.0, pods=1), arrivals=0.0)
ZERO = given.bounds(0, idle_after=600.0)


def _idle(load: Load, **changed: Any) -> Decision:
    state = _known(1, needs=((900.0, 0),), watched_since=0.0, idle_since=100.0)
    fields: dict[str, Any] = {"bounds": ZERO, "load": load, "readings": (), "held": 0.0}
    inputs = given.inputs(**{**fields, **changed})
    decision, state = policy.decide(inputs, state)
    later = dataclasses.replace(inputs, now=inputs.now + 1)
    return policy.decide(later, state)[0] if decision.desired else decision


def test_a_service_that_was_idle_for_long_enough_needs_no_replica() -> None:
    found = _idle(IDLE)
    assert (found.desired, found.reason) == (0, "No request for 600 s.")


@pytest.mark.parametrize(
    ("load", "changed"),
    [
        (dataclasses.replace(IDLE, complete=False), {}),
        (IDLE, {"bounds": given.bounds(0)}),
        (IDLE, {"bounds": given.bounds(1)}),
        (Unknown("no data"), {}),
    ],
    ids=["incomplete", "no idleAfter", "minReplicas 1", "unknown"],
)
def test_zero_needs_proof(load: Any, changed: dict[str, Any]) -> None:
    assert _idle(load, **changed).desired == 1


@pytest.mark.parametrize(
    ("load", "held"),
    [
        (dataclasses.replace(IDLE, arrivals=None), 0.0),
        (dataclasses.replace(IDLE, arrivals=0.1), 0.0),
        (IDLE, None),
        (IDLE, 1.0),
        (dataclasses.replace(IDLE, pods=(given.pod_load(1.0),)), 0.0),
    ],
    ids=["no router", "arrivals", "held unknown", "held", "a long answer"],
)
def test_any_activity_restarts_the_wait_for_zero(load: Load, held: float | None) -> None:
    state = _known(1, idle_since=100.0)
    inputs = given.inputs(bounds=ZERO, load=load, readings=(), held=held)
    assert policy.decide(inputs, state)[1].idle_since is None


def test_an_objective_below_what_an_idle_engine_needs_is_infeasible() -> None:
    late = dataclasses.replace(
        given.reading(current=0.06, target=0.02),
        now=histograms.from_buckets([(0.02, 0.0), (0.04, 50.0), (0.1, 100.0)]),
    )
    wanted = objectives.Objectives((late.objective,))
    found = _decide(_known(1), load=_traffic(2.0), readings=(late,), objectives=wanted)
    assert found.desired == 1
    assert found.infeasible is not None
    assert found.infeasible.startswith("ttft-p95 is 60ms, and an engine without load needs ")
    assert "ask for" in found.infeasible


def test_without_a_step_time_one_request_that_is_too_slow_alone_is_infeasible() -> None:
    found = _decide(given.state(4), ready=4, load=given.load(2.0), readings=SLOW)
    assert found.desired == 4
    assert found.infeasible == (
        "ttft-p95 is 1.00s with 0.5 requests in flight per replica: more replicas can't make one request "
        "faster than 500ms"
    )


def test_a_missed_objective_under_load_is_feasible() -> None:
    assert _decide(given.state(4), ready=4, load=given.load(40.0), readings=SLOW).infeasible is None


def test_a_decision_is_remembered_with_its_time_and_reason() -> None:
    decision, state = policy.decide(given.inputs(readings=SLOW), given.state(1))
    assert (state.desired, state.since, state.reason) == (2, 1000.0, decision.reason)


def test_a_count_that_stays_keeps_its_time_and_reason() -> None:
    before = given.state(1, since=5.0, reason="why")
    _, state = policy.decide(given.inputs(), before)
    assert (state.since, state.reason) == (5.0, "why")


def test_a_short_gap_in_the_data_is_bridged_and_a_long_one_starts_a_new_window() -> None:
    state = given.state(4, needs=WINDOW, watched_since=0.0)
    gap: Inputs = given.inputs(**{**QUIET, "load": Unknown("no data")})
    _, state = policy.decide(gap, state)
    assert state.needs == WINDOW
    _, state = policy.decide(dataclasses.replace(gap, now=gap.now + 61.0), state)
    assert (state.needs, state.watched_since) == ((), None)


def test_another_revision_gets_a_new_model() -> None:
    before = _known(1, revision="old")
    _, state = policy.decide(given.inputs(revision="new", load=given.load(0.0)), before)
    assert state.model.coefficients is None


def test_step_times_are_learned_from_the_metrics_of_engines() -> None:
    _, state = policy.decide(given.inputs(load=_traffic(10.0)), given.state(1))
    assert state.model.coefficients is not None
    assert state.model.coefficients.alpha == pytest.approx(0.007, rel=0.5)


def test_a_service_at_zero_is_woken_to_one_and_says_why() -> None:
    decision, state = policy.wake(given.state(0), now=1000.0)
    assert (decision.desired, decision.known) == (1, True)
    assert (state.desired, state.since) == (1, 1000.0)
    assert decision.reason == state.reason == "Requests wait for a first replica."


def test_waking_never_lowers_the_count() -> None:
    state = given.state(3)
    decision, after = policy.wake(state, now=1000.0)
    assert decision.desired == 3
    assert after == state


def test_a_correction_that_was_too_high_is_unlearned_by_engines_that_are_hardly_busy() -> None:
    state = _known(10, feedback=Feedback({"ttft": 3.0}), watched_since=0.0)
    load, readings = _traffic(30.0, pods=10), (given.reading(current=0.06, requests=500.0),)
    for tick in range(120):
        inputs = given.inputs(now=1000.0 + 30 * tick, ready=10, load=load, readings=readings)
        state = policy.decide(inputs, dataclasses.replace(state, desired=10))[1]
    assert state.feedback.corrections["ttft"] < 1.5


@pytest.mark.parametrize(("current", "learned"), [(0.06, True), (0.9, False)], ids=["low", "high"])
def test_while_engines_start_low_latencies_correct_the_model_and_high_ones_do_not(
    current: float, learned: bool
) -> None:
    state = _known(4, watched_since=0.0)
    load = _traffic(20.0, pods=2)
    readings = (given.reading(current=current, requests=500.0),)
    inputs = given.inputs(now=1000.0, ready=2, starting=2, load=load, readings=readings)
    _, after = policy.decide(inputs, state)
    assert (after.feedback.corrections.get("ttft", 1.0) < 1.0) == learned
