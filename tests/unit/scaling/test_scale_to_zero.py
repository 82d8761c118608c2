"""Scale-down to zero, and back up from it."""

import dataclasses
from typing import Any

import pytest

from slipstream_operator.core.scaling import policy
from slipstream_operator.core.scaling.metrics.values import Load, Unknown
from slipstream_operator.core.scaling.state import Decision
from tests.support import given
from tests.support.decisions import known, traffic

IDLE = dataclasses.replace(traffic(0.0, pods=1), arrivals=0.0)

ZERO = given.bounds(0, idle_after=600.0)


def _idle(load: Load, **changed: Any) -> Decision:
    state = known(1, needs=((900.0, 0),), watched_since=0.0, idle_since=100.0)
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
    state = known(1, idle_since=100.0)
    inputs = given.inputs(bounds=ZERO, load=load, readings=(), held=held)
    assert policy.decide(inputs, state)[1].idle_since is None


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
