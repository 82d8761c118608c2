"""Rollouts in steps: promotion, rollback, holding and the user's commands. Each look survives a restart."""

from typing import Any

import pytest

from slipstream_operator.core.rollout.evidence import Evidence
from slipstream_operator.core.rollout.replicas import Limits
from slipstream_operator.core.rollout.state import Phase
from tests.support.canaries import (
    CANARY,
    GOOD,
    POLICY,
    STABLE,
    THIRD,
    UNSURE,
    WORSE,
    Course,
    evidence,
)


def test_a_canary_gets_no_requests_before_its_pods_are_ready() -> None:
    course = Course()
    state = course.look()
    assert state is not None
    assert (state.stable, state.canary, state.step, course.weight()) == (STABLE, CANARY, -1, 0)
    course.look(after=3600.0)
    assert course.weight() == 0
    course.ready = {STABLE: 4, CANARY: 1}
    course.look()
    assert (course.weight(), course.events) == (5, ["RolloutStep"])


def test_a_canary_that_is_not_worse_gets_one_step_after_the_other_and_then_all_requests() -> None:
    course = Course()
    course.starts()
    weights = [course.weight()]
    for _ in POLICY.steps:
        course.look(after=POLICY.pause, evidence=GOOD)
        weights.append(course.weight())
    assert weights == [5, 25, 50, 100]
    assert course.events == ["RolloutStep"] * 3 + ["RolloutPromoted"]
    state = course.look()
    assert state is not None  # the router has not loaded the weights yet
    assert state.phase is Phase.SWITCHED
    assert course.look(sole=CANARY, serving=CANARY) is None


@pytest.mark.parametrize(
    ("found", "after"),
    [
        (GOOD, POLICY.pause - 1),
        (evidence(1.0, counted=99), POLICY.pause),
        (UNSURE, POLICY.pause),
        (Evidence(), POLICY.pause),
        (Evidence(requests={STABLE: 5000, CANARY: 5000}), POLICY.pause),
        (evidence(1.0, count=20, counted=5000), POLICY.pause),
        (Evidence(GOOD.judgement), POLICY.pause),
        (Evidence(GOOD.judgement, {CANARY: 5000}), POLICY.pause),
    ],
    ids=[
        "too early",
        "too few requests",
        "undecided",
        "no measurements",
        "requests but no comparison",
        "too few values",
        "no count of requests",
        "no count of the stable revision's requests",
    ],
)
def test_a_step_holds_without_time_requests_and_a_verdict(found: Evidence, after: float) -> None:
    course = Course()
    course.starts()
    course.look(after=after, evidence=found)
    assert course.weight() == 5
    assert course.events == ["RolloutStep"]


def test_a_step_without_a_verdict_is_held_and_reported_once_and_goes_on_with_a_verdict() -> None:
    course = Course()
    course.starts(evidence=UNSURE)
    for _ in range(3):
        state = course.look(after=POLICY.max_duration)
        assert state is not None
        assert state.held
    assert course.events == ["RolloutStep", "RolloutHeld"]
    assert "stays at 5% of the requests" in course.messages[-1]
    assert "Undecided: tpot +10.0% (" in course.messages[-1]
    assert course.weight() == 5
    state = course.look(evidence=GOOD)
    assert state is not None
    assert (state.held, course.weight()) == (False, 25)


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_worse_canary_is_rolled_back_at_once_and_not_tried_again(steps: int) -> None:
    course = Course()
    course.starts(evidence=GOOD)
    for _ in range(steps):
        course.look(after=POLICY.pause)
    state = course.look(after=1.0, evidence=WORSE)
    assert state is not None
    assert (state.phase, state.verdict, course.weight()) == (Phase.REJECTED, "Worse", 0)
    assert course.events[-1] == "RolledBack"
    assert "is worse than revision aaaaaaaa: tpot +30.0% (" in course.messages[-1]
    assert "tolerance 10%)" in course.messages[-1]
    course.ready = {STABLE: 4}
    before = list(course.events)
    course.look(after=1e6, evidence=GOOD)
    assert (course.weight(), course.events) == (0, before)


def test_a_canary_that_turns_worse_while_it_gets_its_last_replicas_is_rolled_back() -> None:
    course = Course()
    course.starts(evidence=GOOD)
    course.look(after=POLICY.pause)
    course.look(after=POLICY.pause)
    course.ready = {STABLE: 4, CANARY: 3}
    state = course.look(after=POLICY.pause)
    assert state is not None
    assert state.phase is Phase.PROMOTING
    state = course.look(after=POLICY.pause, evidence=WORSE)
    assert state is not None
    assert state.rejected


def test_evidence_from_before_the_canary_gets_requests_decides_nothing() -> None:
    course = Course()
    course.look(evidence=WORSE)
    assert course.look(after=1e6) is not None
    assert course.events == []


def test_a_reverted_spec_goes_straight_back_and_ends_the_rollout() -> None:
    course = Course()
    course.starts(evidence=GOOD)
    course.look(after=POLICY.pause)
    assert course.look(wanted=STABLE) is None
    assert course.events[-1] == "RolloutReverted"


def test_a_third_revision_starts_from_the_first_step_beside_the_same_stable_one() -> None:
    course = Course()
    course.starts(evidence=GOOD)
    course.look(after=POLICY.pause)
    state = course.look(wanted=THIRD)
    assert state is not None
    assert (state.stable, state.canary, state.step, course.weight()) == (STABLE, THIRD, -1, 0)


def test_another_spec_after_a_rollback_is_tried_and_the_stable_one_ends_it() -> None:
    course = Course()
    course.starts(evidence=WORSE)
    course.look(after=1.0)
    state = course.look(wanted=THIRD)
    assert state is not None
    assert (state.phase, state.canary) == (Phase.COMPARING, THIRD)
    course = Course()
    course.starts(evidence=WORSE)
    course.look(after=1.0)
    assert course.look(wanted=STABLE) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"policy": None},
        {"wanted": STABLE},
        {"serving": None},
        {"by_router": False},
        {"ready": {}},
        {"stopped": True, "limits": Limits(0)},
    ],
    ids=[
        "no steps",
        "no change",
        "first revision",
        "no router",
        "the old one does not serve",
        "stopped",
    ],
)
def test_all_requests_move_at_once_if_there_is_nothing_to_compare(changes: dict[str, Any]) -> None:
    assert Course().look(**changes) is None


def test_a_service_at_zero_starts_its_rollout_with_the_next_request() -> None:
    course = Course(ready={})
    state = course.look(limits=Limits(0))
    assert state is not None
    assert course.look(after=1e6) == state
    course.ready = {STABLE: 1, CANARY: 1}
    course.look(limits=Limits(1))
    assert course.weight() == 5


def test_the_next_step_waits_for_the_replicas_of_its_share() -> None:
    course = Course()
    course.starts(canary=1, evidence=GOOD)
    state = course.look(after=POLICY.pause)
    assert state is not None
    assert (state.passed, course.weight()) == (True, 5)
    course.ready = {STABLE: 4, CANARY: 2}
    course.look()
    assert course.weight() == 25


def test_a_command_is_carried_out_once() -> None:
    course = Course()
    course.starts(evidence=WORSE)
    course.look(after=1.0)
    again = (("retry", f"chat-{CANARY}"),)
    state = course.look(after=1.0, given=again)
    assert state is not None
    assert (state.phase, state.step) == (Phase.COMPARING, -1)
    course.look()
    state = course.look(after=1.0)
    assert state is not None
    assert state.rejected  # it is worse again, and the annotation is still there
    state = course.look(given=(("retry", f"{CANARY}/2"),))
    assert state is not None
    assert not state.rejected
    assert course.events.count("RolloutRetried") == 2


@pytest.mark.parametrize("found", [UNSURE, Evidence(), WORSE], ids=["undecided", "none", "worse"])
def test_the_user_promotes_a_canary_whatever_the_comparison_says(found: Evidence) -> None:
    course = Course()
    course.starts()
    course.ready = {STABLE: 4, CANARY: 2}
    state = course.look(after=1.0, given=(("promote", CANARY),), evidence=found)
    assert state is not None
    assert state.phase is Phase.PROMOTING
    state = course.look(after=1.0)
    assert state is not None
    assert (state.phase, course.weight()) == (Phase.PROMOTING, 33)
    course.ready = {STABLE: 4, CANARY: 4}
    course.look()
    assert course.weight() == 100
    assert course.events == ["RolloutStep", "RolloutPromoting", "RolloutPromoted"]


def test_the_user_promotes_a_rejected_canary() -> None:
    course = Course()
    course.starts(evidence=WORSE)
    course.look(after=1.0)
    course.ready = {STABLE: 4}
    course.look(given=(("promote", CANARY),))
    assert course.weight() == 0
    course.ready = {STABLE: 4, CANARY: 4}
    course.look()
    assert course.weight() == 100


def test_an_aborted_canary_is_rejected_until_it_is_retried() -> None:
    course = Course()
    course.starts(evidence=GOOD)
    state = course.look(given=(("abort", CANARY),))
    assert state is not None
    assert (state.phase, state.verdict, course.weight()) == (Phase.REJECTED, "Aborted", 0)
    assert course.look(after=1e6) is not None
    assert course.events == ["RolloutStep", "RolloutAborted"]
    state = course.look(given=(("abort", CANARY), ("retry", CANARY)))
    assert state is not None
    assert state.phase is Phase.COMPARING


@pytest.mark.parametrize("value", [STABLE, THIRD, f"other-{CANARY}", "", CANARY[:7]])
@pytest.mark.parametrize("command", ["promote", "abort", "retry"])
def test_a_command_for_another_revision_changes_nothing(command: str, value: str) -> None:
    course = Course()
    course.starts()
    course.look(given=((command, value),))
    assert (course.weight(), course.events) == (5, ["RolloutStep"])


def test_a_retry_of_a_canary_that_was_not_rejected_is_not_kept_for_later() -> None:
    course = Course()
    course.starts(given=(("retry", CANARY),))
    state = course.look(after=1.0, evidence=WORSE)
    state = course.look()
    assert state is not None
    assert state.rejected


def test_a_restart_keeps_a_held_rollout_held_and_reports_it_no_second_time() -> None:
    course = Course()
    course.starts(evidence=Evidence())
    course.look(after=POLICY.max_duration)
    course.look(after=POLICY.max_duration)
    assert course.events == ["RolloutStep", "RolloutHeld"]


def test_steps_that_the_user_removes_move_all_requests_as_without_steps() -> None:
    course = Course()
    course.starts(evidence=GOOD)
    assert course.look(policy=None) is None
