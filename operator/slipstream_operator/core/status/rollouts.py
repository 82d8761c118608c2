"""Revisions in a service's status, and the conditions of a rollout in steps."""

from collections.abc import Sequence

from slipstream_operator import names
from slipstream_operator.api import units
from slipstream_operator.api.conditions import Verdict
from slipstream_operator.api.status import RevisionStatus
from slipstream_operator.core.observed import ObservedPod
from slipstream_operator.core.revisions import Canary
from slipstream_operator.core.rollout.state import Phase, State
from slipstream_operator.core.status.outcome import Outcome
from slipstream_operator.names import Condition, Reason


def revisions(
    name: str,
    outcome: Outcome,
    *,
    listed: str | None,
    serving: Sequence[ObservedPod],
) -> list[RevisionStatus] | None:
    """Return each revision while several exist or one is rejected; `listed` is the active one of the router."""
    rollout = outcome.rollout
    if rollout is None:
        return None
    if rollout.canary is not None:
        return _shared(name, outcome, serving=serving)
    if len(rollout.revisions) < 2:
        return None
    active = names.revision_name(name, rollout.active)
    if outcome.router is not None and rollout.by_router:
        active = (
            listed or active
        )  # a router that can't be changed sends requests where it did before
    return [
        RevisionStatus(
            name=names.revision_name(name, revision.hash),
            hash=revision.hash,
            weight=100 if names.revision_name(name, revision.hash) == active else 0,
            replicas=_ready(serving, revision.hash),
        )
        for revision in rollout.revisions
    ]


def _shared(
    name: str, outcome: Outcome, *, serving: Sequence[ObservedPod]
) -> list[RevisionStatus] | None:
    """Return the stable revision and the canary."""
    state = outcome.progress.state
    if outcome.rollout is None or outcome.rollout.canary is None or state is None:
        return None
    canary = outcome.rollout.canary
    return [
        RevisionStatus(
            name=names.revision_name(name, canary.stable),
            hash=canary.stable,
            weight=100 - canary.weight,
            replicas=_ready(serving, canary.stable),
            role="Stable",
        ),
        RevisionStatus(
            name=names.revision_name(name, canary.revision),
            hash=canary.revision,
            weight=canary.weight,
            replicas=_ready(serving, canary.revision),
            role="Canary",
            phase=_phase(state),
            step=_step(outcome, state),
            verdict=state.verdict or None,
            message=state.reason or None,
            since=units.timestamp(state.since),
        ),
    ]


def _ready(serving: Sequence[ObservedPod], revision: str) -> int:
    return sum(pod.ready for pod in serving if pod.revision == revision)


def _phase(state: State) -> str:
    starts = state.phase is Phase.COMPARING and state.step < 0
    return "Starting" if starts else str(state.phase)


def _step(outcome: Outcome, state: State) -> str | None:
    policy = outcome.resolved.steps if outcome.resolved is not None else None
    if policy is None or state.step < 0:
        return None
    return f"{state.step + 1} of {len(policy.steps)}"


def condition(outcome: Outcome, *, trouble: tuple[str, str] | None) -> Verdict | None:
    """Return the condition Stalled or Reconciling of a rollout in steps; None without one.

    `trouble` is the failure of a pod of the canary.
    """
    state = outcome.progress.state
    policy = outcome.resolved.steps if outcome.resolved is not None else None
    canary = outcome.rollout.canary if outcome.rollout is not None else None
    if state is None or policy is None or canary is None:
        return None
    if state.rejected:
        aborted = state.verdict == "Aborted"
        reason = Reason.ROLLOUT_ABORTED if aborted else Reason.ROLLED_BACK
        remedy = (
            "Change the spec, or try it again with `slipstream rollout retry "
            f"{outcome.resolved.key.name}`."
            if outcome.resolved is not None
            else ""
        )
        return Verdict(Condition.STALLED, "True", reason, f"{state.reason} {remedy}")
    parts = [_in_short(outcome, state, canary)]
    if state.reason:
        parts.append(state.reason)
    if state.passed and policy.surge == 0 and not canary.replicas and canary.stable_replicas:
        parts.append(
            "spec.rollout.surge: 0 can't work with 1 replica, because a replica of each revision is needed. Use "
            "surge: 1, at least 2 replicas, or strategy: Recreate."
        )
    elif trouble is not None:
        parts.append(f"{trouble[0]}: {trouble[1]}")
        if trouble[0] == Reason.UNSCHEDULABLE and policy.surge != 0:
            parts.append(
                "Use spec.rollout.surge: 0 to stop an old replica for each new one, or add nodes."
            )
    reason = Reason.ROLLOUT_HELD if state.held else Reason.ROLLING_OUT
    return Verdict(Condition.RECONCILING, "True", reason, " ".join(parts))


def _in_short(outcome: Outcome, state: State, canary: Canary) -> str:
    if state.phase is Phase.COMPARING and state.step < 0:
        if not canary.stable_replicas:
            return f"Revision {state.canary} starts with the next request, together with revision {state.stable}."
        return f"Revision {state.canary} is starting while revision {state.stable} serves requests."
    if state.phase is Phase.COMPARING:
        waits = " The next step waits for its replicas." if state.passed else ""
        return f"Step {_step(outcome, state)}: revision {state.canary} gets {canary.weight}% of the requests.{waits}"
    if state.phase is Phase.PROMOTING:
        return f"Revision {state.canary} gets all replicas, and then all requests."
    return f"The router moves all requests to revision {state.canary}."
