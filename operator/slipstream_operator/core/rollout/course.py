"""Course of a service's rollout: from a snapshot and the measurements to the replicas and shares of both revisions."""

import dataclasses

from slipstream_operator.core import revisions
from slipstream_operator.core.events import Event
from slipstream_operator.core.observed import Observed
from slipstream_operator.core.resolved import Resolved
from slipstream_operator.core.revisions import Canary
from slipstream_operator.core.rollout import evidence, machine
from slipstream_operator.core.rollout.evidence import Compared, Evidence
from slipstream_operator.core.rollout.machine import Situation
from slipstream_operator.core.rollout.replicas import Limits
from slipstream_operator.core.rollout.state import Phase, Progress


@dataclasses.dataclass(frozen=True)
class Course:
    """Rollout after one reconcile."""

    progress: Progress
    canary: Canary | None
    """Replicas and shares; None if no rollout in steps is in progress and none was rejected."""
    events: tuple[Event, ...]


def follow(
    progress: Progress,
    observed: Observed,
    resolved: Resolved,
    *,
    replicas: int,
    compared: Compared,
    now: float,
) -> Course:
    """Return the next part of the course; `replicas` are those that the service needs."""
    found, state = Evidence(), progress.state
    if state is not None and resolved.steps is not None:
        found = evidence.of(compared, resolved.steps, stable=state.stable, canary=state.canary)
    situation = _situation(observed, resolved, replicas=replicas, found=found, now=now)
    progress, events = machine.advance(progress, situation)
    return Course(progress, _canary(progress, situation), tuple(events))


def _situation(
    observed: Observed, resolved: Resolved, *, replicas: int, found: Evidence, now: float
) -> Situation:
    wanted = revisions.wanted_revision(observed, resolved)
    assert wanted is not None
    share, policy = resolved.share, resolved.steps
    return Situation(
        service=resolved.key.name,
        policy=policy,
        wanted=wanted,
        serving=revisions.serving_revision(observed),
        by_router=revisions.by_router(observed) is True,
        sole=revisions.sole(observed),
        ready=revisions.ready_pods(observed),
        limits=Limits(
            replicas,
            surge=policy.surge if policy is not None else None,
            quota=share.replicas + share.surge if share is not None else None,
        ),
        stopped=resolved.bounds.maximum == 0,
        evidence=found,
        given=observed.parent.commands,
        now=now,
    )


def _canary(progress: Progress, situation: Situation) -> Canary | None:
    state, policy = progress.state, situation.policy
    if state is None or policy is None:
        return None
    counts = machine.counts(state, policy, situation.limits, ready=situation.ready_of(state.canary))
    compares = state.step >= 0 and state.phase in (Phase.COMPARING, Phase.PROMOTING)
    compares = compares and not state.forced
    return Canary(
        stable=state.stable,
        revision=state.canary,
        weight=machine.weight(state, policy, ready=situation.ready),
        stable_replicas=counts.stable,
        replicas=counts.canary,
        rejected=state.rejected,
        since=state.since if compares else None,
    )
