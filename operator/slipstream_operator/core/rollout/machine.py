"""State machine of a rollout in steps: the next state, and the Events of its transition."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Final

from slipstream_operator.core.comparison.judgement import Judgement, Verdict
from slipstream_operator.core.events import Event
from slipstream_operator.core.rollout import commands, evidence, replicas
from slipstream_operator.core.rollout.evidence import Evidence
from slipstream_operator.core.rollout.policy import Policy
from slipstream_operator.core.rollout.replicas import Counts, Limits
from slipstream_operator.core.rollout.state import Phase, Progress, State
from slipstream_operator.names import Reason

ABORTED: Final = "Aborted"
"""Verdict of a rollout that the user ended."""


@dataclasses.dataclass(frozen=True)
class Situation:
    """Values that the next state depends on."""

    service: str
    policy: Policy | None
    """None if all requests move at once."""
    wanted: str
    """Hash of the revision that the spec asks for."""
    serving: str | None
    """Hash of the revision that serves the requests now; None if none exists."""
    by_router: bool
    """Whether requests pass through the router."""
    sole: str | None
    """Hash of the only revision that has a weight in the router's configuration; None if several have one."""
    ready: Mapping[str, int]
    """Revision -> ready pods."""
    limits: Limits
    stopped: bool
    """Whether the service is stopped by spec.replicas: 0."""
    evidence: Evidence
    given: Sequence[tuple[str, str]]
    """Commands of the user and their values."""
    now: float
    """Seconds since the epoch."""

    def ready_of(self, revision: str) -> int:
        """Return the ready pods of a revision."""
        return self.ready.get(revision, 0)


def advance(progress: Progress, situation: Situation) -> tuple[Progress, list[Event]]:
    """Return the next progress, and the Events of the transition."""
    given = dict(situation.given)
    done = {command: value for command, value in progress.done.items() if command in given}
    state, posts = _standing(progress.state, situation)
    if state is None or situation.policy is None:
        return Progress(state, done), posts
    new = _new_commands(state, situation, done)
    command = next((each for each in new if _applies(each, state)), None)
    done |= new
    if command is None:
        state, events = _next(state, situation, situation.policy)
    else:
        state, events = _commanded(state, command, situation)
    return Progress(state, done), [*posts, *events]


def _standing(before: State | None, situation: Situation) -> tuple[State | None, list[Event]]:
    """Return the state for the present spec: a rollout begins, goes on, or ends because the spec changed."""
    wanted = situation.wanted
    if situation.policy is None:
        return None, []
    if before is None:
        serving = situation.serving
        serves = serving is not None and (
            situation.ready_of(serving) > 0 or situation.limits.replicas == 0
        )
        begins = serves and situation.by_router and wanted != serving and not situation.stopped
        if serving is None or not begins:
            return None, []
        return State(serving, wanted, since=situation.now), []
    if before.phase is Phase.SWITCHED and situation.sole == before.canary:
        return _standing(None, situation)
    if wanted == before.stable:
        if before.rejected:
            return None, []
        message = (
            f"Revision {before.stable} gets all requests again, because the spec no longer asks for revision "
            f"{before.canary}."
        )
        return None, [Event("Normal", Reason.ROLLOUT_REVERTED, message)]
    if wanted != before.canary:
        return State(before.stable, wanted, since=situation.now), []
    return before, []


def _new_commands(state: State, situation: Situation, done: Mapping[str, str]) -> dict[str, str]:
    """Return the commands for this rollout that were not carried out, with their values."""
    return {
        command: value
        for command, value in situation.given
        if done.get(command) != value
        and commands.names_revision(value, situation.service, state.canary)
    }


def _applies(command: str, state: State) -> bool:
    """Whether the command changes a rollout in this state."""
    match command:
        case commands.RETRY:
            return state.rejected
        case commands.ABORT:
            return state.phase in (Phase.COMPARING, Phase.PROMOTING)
        case _:
            return state.rejected or state.phase is Phase.COMPARING


def _commanded(state: State, command: str, situation: Situation) -> tuple[State, list[Event]]:
    now = situation.now
    if command == commands.ABORT:
        reason = f"The rollout of revision {state.canary} was aborted by the user."
        return _rejected(state, ABORTED, reason, now=now, because=Reason.ROLLOUT_ABORTED)
    if command == commands.RETRY:
        message = f"Revision {state.canary} is tried again."
        return State(state.stable, state.canary, since=now), [
            Event("Normal", Reason.ROLLOUT_RETRIED, message)
        ]
    message = f"Revision {state.canary} is promoted by the user."
    promoting = dataclasses.replace(
        state,
        phase=Phase.PROMOTING,
        since=now,
        step=-1 if state.rejected else state.step,
        forced=True,
        held=False,
        verdict="",
        reason=message,
    )
    return promoting, [Event("Normal", Reason.ROLLOUT_PROMOTING, message)]


def _next(state: State, situation: Situation, policy: Policy) -> tuple[State, list[Event]]:
    state = dataclasses.replace(state, step=min(state.step, len(policy.steps) - 1))
    if state.phase in (Phase.COMPARING, Phase.PROMOTING) and not state.forced:
        judgement = situation.evidence.judgement
        if state.step >= 0 and judgement is not None:
            state = dataclasses.replace(state, verdict=str(judgement.verdict))
            if judgement.verdict is Verdict.WORSE:
                return _roll_back(state, judgement, now=situation.now)
    if state.phase is Phase.PROMOTING:
        return _promote(state, situation)
    if state.phase is not Phase.COMPARING:
        return state, []
    if state.passed:
        return _enter(state, situation, policy)
    return _judge(state, situation, policy)


def _roll_back(state: State, judgement: Judgement, *, now: float) -> tuple[State, list[Event]]:
    reason = f"Revision {state.canary} is worse than revision {state.stable}: {evidence.reasons(judgement)}"
    return _rejected(state, state.verdict, reason, now=now, because=Reason.ROLLED_BACK)


def _judge(state: State, situation: Situation, policy: Policy) -> tuple[State, list[Event]]:
    """Return the state of a step that is not over: passed, held, or unchanged but for its explanation."""
    elapsed = situation.now - state.since
    lacking = _lacking(state, situation, policy)
    if lacking is None and elapsed >= policy.pause:
        passed = dataclasses.replace(state, passed=True, held=False, reason="")
        return _enter(passed, situation, policy)
    if lacking is None:
        return dataclasses.replace(state, held=False, reason=_compared(state, situation)), []
    state = dataclasses.replace(state, reason=lacking)
    if elapsed < max(policy.max_duration, policy.pause) or state.held:
        return state, []
    message = (
        f"Revision {state.canary} stays at {policy.steps[state.step]}% of the requests, because there is no verdict "
        f"after {policy.max_duration:.0f} s: {lacking} It is promoted by `slipstream rollout promote "
        f"{situation.service}`."
    )
    return dataclasses.replace(state, held=True), [Event("Warning", Reason.ROLLOUT_HELD, message)]


def _lacking(state: State, situation: Situation, policy: Policy) -> str | None:
    """Return what the step lacks before the next one may follow, besides time; None if it lacks nothing."""
    found = situation.evidence
    if found.judgement is None:
        return found.missing
    for revision in (state.canary, state.stable):
        counted = found.requests_of(revision)
        if counted < policy.min_requests:
            return (
                f"Revision {revision} has answered {counted:.0f} of {policy.min_requests} requests that the step "
                "needs."
            )
    if found.judgement.verdict is not Verdict.NOT_WORSE:
        return f"Undecided: {evidence.reasons(found.judgement)}"
    return None


def _compared(state: State, situation: Situation) -> str:
    """Return the sentence about a step that only waits for its time."""
    counts = [situation.evidence.requests_of(each) for each in (state.canary, state.stable)]
    return f"Not worse in {counts[0]:.0f} requests, compared with {counts[1]:.0f}."


def _enter(state: State, situation: Situation, policy: Policy) -> tuple[State, list[Event]]:
    """Return the state in the next step if the canary has its replicas; otherwise the same, which waits."""
    following = state.step + 1
    if following == len(policy.steps):
        passed = f"Revision {state.canary} passed all steps."
        # NB: `since` stays, because routers count from the change of the weights on.
        promoting = dataclasses.replace(state, phase=Phase.PROMOTING, reason=passed)
        return _promote(promoting, situation)
    need = replicas.of_step(policy.steps[following], situation.limits).canary
    if situation.limits.replicas == 0 or situation.ready_of(state.canary) < need:
        return state, []
    entered = dataclasses.replace(
        state,
        step=following,
        since=situation.now,
        passed=False,
        held=False,
        verdict="",
        reason="",
    )
    message = (
        f"Step {following + 1} of {len(policy.steps)}: revision {state.canary} gets {policy.steps[following]}% of the "
        "requests."
    )
    return entered, [Event("Normal", Reason.ROLLOUT_STEP, message)]


def _promote(state: State, situation: Situation) -> tuple[State, list[Event]]:
    need = replicas.of_promotion(situation.limits).canary
    if situation.ready_of(state.canary) < need:
        return state, []
    message = f"{state.reason} It gets all requests."
    switched = dataclasses.replace(state, phase=Phase.SWITCHED, since=situation.now)
    return switched, [Event("Normal", Reason.ROLLOUT_PROMOTED, message)]


def _rejected(
    state: State, verdict: str, reason: str, *, now: float, because: str
) -> tuple[State, list[Event]]:
    message = f"{reason} Revision {state.stable} gets all requests."
    return dataclasses.replace(
        state, phase=Phase.REJECTED, since=now, held=False, verdict=verdict, reason=message[:1024]
    ), [Event("Warning", because, message[:1024])]


def weight(state: State, policy: Policy, *, ready: Mapping[str, int]) -> int:
    """Return the percent of the requests that the canary gets."""
    if state.phase is Phase.SWITCHED:
        return 100
    if state.rejected:
        return 0
    share = policy.steps[min(state.step, len(policy.steps) - 1)] if state.step >= 0 else 0
    if state.phase is Phase.PROMOTING:
        after, before = ready.get(state.canary, 0), ready.get(state.stable, 0)
        share = max(share, 100 * after // max(after + before, 1) if before else 100)
    return share


def counts(state: State, policy: Policy, limits: Limits, *, ready: int) -> Counts:
    """Return the replicas of both revisions; `ready` is the number of the canary's ready pods."""
    if state.rejected:
        return Counts(limits.replicas, 0)
    if state.phase is not Phase.COMPARING:
        return replicas.toward(replicas.of_promotion(limits), limits, ready=ready)
    if not limits.has_room and limits.replicas:
        return Counts(limits.replicas, 0)
    following = state.step + 1 if state.passed else state.step
    if following == len(policy.steps):
        target = replicas.of_promotion(limits)
    else:
        target = replicas.of_step(policy.steps[min(following, len(policy.steps) - 1)], limits)
    return replicas.toward(target, limits, ready=ready)
