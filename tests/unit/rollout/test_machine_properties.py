"""Rules that hold on every way through a rollout, whatever happens in which order, with a restart at each look."""

import random
from typing import Any

import pytest

from slipstream_operator.core.comparison.judgement import Verdict
from slipstream_operator.core.rollout import machine
from slipstream_operator.core.rollout.evidence import Evidence
from slipstream_operator.core.rollout.replicas import Limits
from slipstream_operator.core.rollout.state import Phase, State
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

FOUND = [GOOD, GOOD, GOOD, WORSE, UNSURE, Evidence(), evidence(1.0, counted=50)]
COMMANDS = ["promote", "abort", "retry"]


def _happens(dice: random.Random, course: Course, look: int) -> dict[str, Any]:
    """Return what is different at this look."""
    changes: dict[str, Any] = {"evidence": dice.choice(FOUND), "given": ()}
    match dice.randrange(12):
        case 0:
            changes["wanted"] = dice.choice([STABLE, CANARY, THIRD])
        case 1:
            value = f"{dice.choice([STABLE, CANARY, THIRD])}/{look}"
            changes["given"] = ((dice.choice(COMMANDS), value),)
        case 2 | 3 | 4:
            course.ready = {
                each: dice.randrange(5) for each in (STABLE, CANARY, THIRD) if dice.random() < 0.8
            }
        case 5:
            changes["limits"] = Limits(dice.randrange(5), dice.choice([None, 0, 1]))
    return changes


def _may_enter(before: State, course: Course, found: Evidence) -> bool:
    """Whether the next step may follow at this look."""
    if before.passed:
        return True
    good = found.judgement is not None and found.judgement.verdict is Verdict.NOT_WORSE
    counted = min(found.requests_of(before.stable), found.requests_of(before.canary))
    return good and counted >= POLICY.min_requests and course.now - before.since >= POLICY.pause


@pytest.mark.parametrize("seed", range(100))
def test_no_way_through_a_rollout_breaks_a_rule(seed: int) -> None:
    dice = random.Random(seed)
    course = Course()
    for look in range(60):
        before = course.progress.state
        weight = course.weight()
        changes = _happens(dice, course, look)
        after = course.look(after=dice.choice([1.0, POLICY.pause, POLICY.max_duration]), **changes)
        limits = course.settings.get("limits", Limits(4))
        if after is None:
            continue
        found: Evidence = changes["evidence"]
        if before is None or after.canary != before.canary:
            assert course.weight() <= (POLICY.steps[0] if course.ready.get(after.canary) else 0)
            continue
        commanded = bool(changes["given"])
        assert after.stable == before.stable
        assert after.step <= before.step + 1 or commanded
        if after.step > before.step:
            assert _may_enter(before, course, found)
            assert course.ready[after.canary] > 0
        worse = found.judgement is not None and found.judgement.verdict is Verdict.WORSE
        compares = before.step >= 0 and not before.forced and not before.rejected
        if worse and compares and before.phase is not Phase.SWITCHED and not commanded:
            assert after.rejected
            assert course.weight() == 0
        if before.rejected and not commanded:
            assert after.rejected
        if after.phase is Phase.SWITCHED and not after.forced and before.phase is Phase.COMPARING:
            assert before.step == len(POLICY.steps) - 1
        if not after.rejected and not commanded and after.phase is Phase.COMPARING:
            assert course.weight() >= weight or before.step != after.step
        counts = machine.counts(after, POLICY, limits, ready=course.ready.get(after.canary, 0))
        most = limits.replicas + (limits.replicas if limits.surge is None else limits.surge)
        assert counts.stable >= 0
        assert counts.canary >= 0
        assert counts.stable + counts.canary <= max(most, 1)
