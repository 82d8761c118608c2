"""Conditions of a rollout in steps."""

from typing import Any

import pytest

from slipstream_operator.core.revisions import Canary, Revision, Rollout
from slipstream_operator.core.rollout.state import Phase, Progress, State
from slipstream_operator.core.status import rollouts
from slipstream_operator.core.status.outcome import Outcome
from tests.support import given
from tests.support.canaries import CANARY, STABLE

UNSCHEDULABLE = ("Unschedulable", "0/3 nodes are available.")


def outcome(
    state: dict[str, Any], *, weight: int = 0, stable: int = 2, canary: int = 1, **rollout: Any
) -> Outcome:
    """A rollout in this state, with these replicas."""
    found = State(STABLE, CANARY, since=given.MOMENT, **state)
    split = Canary(STABLE, CANARY, weight, stable, canary, rejected=found.rejected)
    wanted = STABLE if found.rejected else CANARY
    return Outcome(
        resolved=given.resolved(
            {"model": given.MODEL, "rollout": {"steps": ["5%", "50%"], **rollout}}
        ),
        rollout=Rollout(STABLE, wanted, (Revision(STABLE, stable),), canary=split),
        progress=Progress(found),
    )


def message(found: Outcome, trouble: tuple[str, str] | None = None) -> tuple[str, str, str]:
    verdict = rollouts.condition(found, trouble=trouble)
    assert verdict is not None
    return verdict.type, verdict.reason, verdict.message


def test_a_canary_without_a_node_is_reported_with_what_needs_no_further_node() -> None:
    kind, reason, text = message(outcome({}), UNSCHEDULABLE)
    assert (kind, reason) == ("Reconciling", "RollingOut")
    assert text == (
        "Revision bbbbbbbb is starting while revision aaaaaaaa serves requests. Unschedulable: 0/3 nodes are "
        "available. Use spec.rollout.surge: 0 to stop an old replica for each new one, or add nodes."
    )


def test_without_surge_the_remedy_is_not_named_again() -> None:
    *_, text = message(outcome({}, stable=1, surge=0), UNSCHEDULABLE)
    assert text.endswith("0/3 nodes are available.")


@pytest.mark.parametrize(
    ("state", "changes", "start"),
    [
        ({}, {"stable": 0, "canary": 0}, "Revision bbbbbbbb starts with the next request"),
        (
            {"step": 0, "passed": False, "reason": "Undecided: tpot +3.0%."},
            {"weight": 5},
            "Step 1 of 2: revision bbbbbbbb gets 5% of the requests. Undecided: tpot +3.0%.",
        ),
        (
            {"step": 0, "passed": True},
            {"weight": 5},
            "Step 1 of 2: revision bbbbbbbb gets 5% of the requests. The next step waits for its replicas.",
        ),
        (
            {"phase": Phase.PROMOTING, "step": 1},
            {"weight": 50},
            "Revision bbbbbbbb gets all replicas, and then all requests.",
        ),
        (
            {"phase": Phase.SWITCHED, "step": 1},
            {"weight": 100},
            "The router moves all requests to revision bbbbbbbb.",
        ),
    ],
)
def test_each_phase_says_what_happens(
    state: dict[str, Any], changes: dict[str, Any], start: str
) -> None:
    kind, reason, text = message(outcome(state, **changes))
    assert (kind, reason) == ("Reconciling", "RollingOut")
    assert text.startswith(start)


def test_a_held_step_has_its_own_reason() -> None:
    held = {"step": 0, "passed": False, "held": True, "reason": "There are no measurements."}
    assert message(outcome(held, weight=5))[:2] == ("Reconciling", "RolloutHeld")


@pytest.mark.parametrize(
    ("verdict", "expected"), [("Worse", "RolledBack"), ("Aborted", "RolloutAborted")]
)
def test_a_rejected_revision_stalls_the_service_and_says_how_to_go_on(
    verdict: str, expected: str
) -> None:
    rejected = {"phase": Phase.REJECTED, "verdict": verdict, "reason": "It is slower."}
    assert message(outcome(rejected, canary=0)) == (
        "Stalled",
        expected,
        "It is slower. Change the spec, or try it again with `slipstream rollout retry chat`.",
    )
