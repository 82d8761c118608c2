"""Conditions of a service."""

import dataclasses
from collections.abc import Sequence
from typing import Final

from slipstream_operator.api import units
from slipstream_operator.api.conditions import ConditionStatus, Verdict
from slipstream_operator.core import key_problems, losses, ownership, revisions, wording
from slipstream_operator.core.observed import Observed, ObservedPod
from slipstream_operator.core.resolved import Resolved
from slipstream_operator.core.scaling.metrics.values import Reading, Unknown
from slipstream_operator.core.status import rollouts
from slipstream_operator.core.status.outcome import Outcome
from slipstream_operator.names import Condition, Reason
from slipstream_runtime import contract

_NO_PROMETHEUS: Final = (
    "The ServingProfile of the namespace has no spec.prometheus, so nothing is measured and the replica count stays. "
    "Set spec.prometheus.url in the profile."
)


def verdicts(
    observed: Observed,
    outcome: Outcome,
    *,
    serving: Sequence[ObservedPod],
    ready: Sequence[ObservedPod],
) -> list[Verdict]:
    """Return the conditions of the service, Ready first."""
    accepted = _accepted(outcome)
    refused = [child.trouble for child in observed.children if child.trouble]
    available = _available(observed, outcome, serving=serving, ready=ready, refused=refused)
    loaded = _model_ready(outcome, available, ready)
    if outcome.prefetch is not None:
        loaded = dataclasses.replace(loaded, message=f"{loaded.message} {outcome.prefetch}")
    found = [
        _ready(accepted, available, loaded),
        accepted,
        loaded,
        available,
        _slo_met(outcome),
        _scaling_active(outcome),
    ]
    if outcome.rejected is not None:
        found.append(
            Verdict(Condition.STALLED, "True", outcome.rejected.reason, outcome.rejected.message)
        )
    elif over := _over_quota(outcome):
        found.append(Verdict(Condition.STALLED, "True", Reason.QUOTA_EXCEEDED, over))
    elif waiting := _building(outcome):
        found.append(waiting)
    elif progress := _progress(observed, outcome, serving=serving, ready=ready):
        found.append(progress)
    if foreign := _foreign(observed, outcome):
        message = ownership.message(foreign)
        found.append(Verdict(Condition.FOREIGN_PODS, "True", Reason.FOREIGN_PODS, message))
    if keys := _keys(observed, outcome):
        found.append(Verdict(Condition.KEYS_REFUSED, "True", *keys))
    return found


def _keys(observed: Observed, outcome: Outcome) -> tuple[str, str] | None:
    """Return reason and message if the router does not accept keys of the service's Secret; otherwise None."""
    secret = outcome.resolved.routing.keys if outcome.resolved is not None else None
    by_router = outcome.rollout is not None and outcome.rollout.by_router
    if observed.router.keys is None or secret is None or not by_router:
        return None
    return key_problems.verdict(observed.router.keys, secret=secret)


def _foreign(observed: Observed, outcome: Outcome) -> list[str]:
    """Return the names of pods that only have the labels of the service's pods or, if it uses one, of its router."""
    by_router = outcome.rollout is not None and outcome.rollout.by_router
    return sorted({*observed.foreign, *(observed.router.foreign if by_router else ())})


def _accepted(outcome: Outcome) -> Verdict:
    if outcome.rejected is not None:
        return Verdict(
            Condition.ACCEPTED, "False", outcome.rejected.reason, outcome.rejected.message
        )
    if over := _over_quota(outcome):
        return Verdict(Condition.ACCEPTED, "False", Reason.QUOTA_EXCEEDED, over)
    return Verdict(Condition.ACCEPTED, "True", Reason.ACCEPTED, "The object is valid.")


def _over_quota(outcome: Outcome) -> str | None:
    """Return the refusal if the namespace's quota allows no replica; otherwise None."""
    resolved = outcome.resolved
    return resolved.share.refused if resolved is not None and resolved.share is not None else None


def _available(
    observed: Observed,
    outcome: Outcome,
    *,
    serving: Sequence[ObservedPod],
    ready: Sequence[ObservedPod],
    refused: Sequence[str],
) -> Verdict:
    def verdict(reason: str, message: str, status: ConditionStatus = "False") -> Verdict:
        return Verdict(Condition.AVAILABLE, status, reason, message)

    if outcome.conflicts:
        return verdict(
            Reason.NAME_CONFLICT,
            wording.held(outcome.conflicts, alternative=", or rename this object"),
        )
    if outcome.failures:
        return verdict(Reason.REJECTED, "; ".join(outcome.failures))
    by_router = outcome.rollout is not None and outcome.rollout.by_router
    if (outcome.at_zero or ready) and by_router and not observed.router.answers:
        if outcome.router is not None:
            return verdict(outcome.router.reason, outcome.router.message)
        why = observed.router.trouble or "None of its pods is ready."
        return verdict(Reason.ROUTER_NOT_READY, f"Deployment {contract.ROUTER_NAME}: {why}")
    if outcome.at_zero:
        return verdict(
            Reason.SCALED_TO_ZERO,
            "The service is scaled to zero. The router holds the next request until a replica is ready.",
            "True",
        )
    if ready and outcome.gateway is not None and outcome.gateway.problem is not None:
        return verdict(*outcome.gateway.problem)
    if ready:
        return verdict(Reason.ENGINES_READY, _counted(len(ready), len(serving)), "True")
    if over := _over_quota(outcome):
        return verdict(Reason.QUOTA_EXCEEDED, over)
    if outcome.resolved is not None and outcome.resolved.bounds.maximum == 0:
        return verdict(Reason.STOPPED, "The service is stopped because spec.replicas is 0.")
    if trouble := _trouble([*serving, *observed.workers]):
        return verdict(*trouble)
    if refused and not serving:
        return verdict(Reason.CREATE_FAILED, refused[0])
    if lost := losses.of(observed):
        return verdict(lost.reason, lost.message)
    if outcome.building is not None and outcome.building.problem is not None and not serving:
        return verdict(*outcome.building.problem)
    if outcome.fetching is not None and not serving:
        return verdict(outcome.fetching.reason, outcome.fetching.message)
    if outcome.loss is not None:
        return verdict(Reason.GROUP_RESTARTED, outcome.loss)
    if refused:
        return verdict(Reason.CREATE_FAILED, refused[0])
    if not serving:
        return verdict(Reason.PENDING, "No engine exists yet.")
    return verdict(Reason.STARTING, _counted(0, len(serving)))


def _counted(ready: int, total: int) -> str:
    """Return how many engines are ready, as a sentence."""
    if total == 1:
        return "The engine is ready." if ready else "The engine is not ready yet."
    return f"{ready} of {total} engines {'is' if ready == 1 else 'are'} ready."


def _trouble(pods: Sequence[ObservedPod]) -> tuple[str, str] | None:
    """Return the reason and message of the newest pod with a failure."""
    troubled = sorted(
        (pod for pod in pods if pod.trouble and not pod.ready),
        key=lambda pod: (pod.created, pod.name),
    )
    if not troubled:
        return None
    newest = troubled[-1]
    assert newest.trouble is not None
    reason, message = newest.trouble
    return (reason, f"Worker {newest.name}: {message}") if newest.worker else newest.trouble


def _model_ready(outcome: Outcome, available: Verdict, ready: Sequence[ObservedPod]) -> Verdict:
    found = _loaded(outcome, available, ready)
    if outcome.building is None or outcome.building.problem is None:
        return found
    reason, message = outcome.building.problem
    if outcome.building.waits:
        return Verdict(
            Condition.MODEL_READY, "False", reason, f"{message}{_goes_on(outcome, ready)}"
        )
    if found.status == "True":
        return dataclasses.replace(found, reason=reason, message=message)
    return found


def _goes_on(outcome: Outcome, ready: Sequence[ObservedPod]) -> str:
    """Return which revision serves while a build is awaited; nothing if none does."""
    if outcome.rollout is None or not (ready or outcome.at_zero):
        return ""
    return f" Revision {outcome.rollout.active} goes on serving requests."


def _loaded(outcome: Outcome, available: Verdict, ready: Sequence[ObservedPod]) -> Verdict:
    if ready:
        return Verdict(
            Condition.MODEL_READY, "True", Reason.LOADED, "The engine has answered a test request."
        )
    if outcome.fetching is not None:
        return Verdict(
            Condition.MODEL_READY, "False", outcome.fetching.reason, outcome.fetching.message
        )
    if outcome.at_zero:
        return Verdict(
            Condition.MODEL_READY,
            "True",
            Reason.SCALED_TO_ZERO,
            "The model loads when a request arrives.",
        )
    return Verdict(Condition.MODEL_READY, "False", Reason.NOT_LOADED, available.message)


def _ready(accepted: Verdict, available: Verdict, loaded: Verdict) -> Verdict:
    if accepted.status == "True" and available.reason == Reason.STOPPED:
        return Verdict(
            Condition.READY,
            "True",
            Reason.STOPPED,
            "The service is stopped because spec.replicas is 0. No engine runs.",
        )
    for verdict in (accepted, available, loaded):
        if verdict.status != "True":
            return Verdict(Condition.READY, "False", verdict.reason, verdict.message)
    return Verdict(Condition.READY, "True", Reason.ENGINES_READY, "The service is ready.")


def _slo_met(outcome: Outcome) -> Verdict:
    def verdict(status: ConditionStatus, reason: str, message: str) -> Verdict:
        return Verdict(Condition.SLO_MET, status, reason, message)

    if outcome.resolved is not None and not outcome.resolved.objectives.latency:
        return verdict("Unknown", Reason.NO_OBJECTIVES, "spec.slo sets no latency objective.")
    if outcome.resolved is not None and outcome.resolved.prometheus is None:
        return verdict("Unknown", Reason.NO_PROMETHEUS, _NO_PROMETHEUS)
    if outcome.measured is None:
        return verdict("Unknown", Reason.NO_METRICS, "There are no measurements yet.")
    readings = outcome.measured.readings
    if isinstance(readings, Unknown):
        return verdict("Unknown", Reason.NO_METRICS, wording.sentence(readings.reason))
    measured = [reading for reading in readings if reading.telling]
    if not measured:
        return verdict(
            "Unknown", Reason.NO_TRAFFIC, "There are too few requests to evaluate the objectives."
        )
    if outcome.decision and outcome.decision.infeasible:
        return verdict("False", Reason.INFEASIBLE, outcome.decision.infeasible)
    missed = [reading for reading in measured if reading.over]
    if missed:
        return verdict("False", Reason.MISSED, _in_words(missed))
    return verdict("True", Reason.MET, _in_words(measured))


def _in_words(readings: Sequence[Reading]) -> str:
    """Return each objective with its current value, as a sentence."""
    parts = [
        f"{reading.objective.name} is {units.format_seconds(reading.current or 0)} "
        f"(target: {reading.objective.text})"
        for reading in readings
    ]
    return f"{', '.join(parts)}."


def _scaling_active(outcome: Outcome) -> Verdict:
    def verdict(status: ConditionStatus, reason: str, message: str) -> Verdict:
        return Verdict(Condition.SCALING_ACTIVE, status, reason, message)

    if outcome.resolved is not None and _lacks_prometheus(outcome.resolved):
        return verdict("False", Reason.NO_PROMETHEUS, _NO_PROMETHEUS)
    if outcome.resolved is None or outcome.decision is None:
        return verdict("Unknown", Reason.PENDING, "There is no scaling decision yet.")
    bounds, decision = outcome.resolved.bounds, outcome.decision
    if not bounds.follows_load:
        return verdict("False", Reason.FIXED_REPLICAS, decision.reason)
    if bounds.paused:
        return verdict("False", Reason.PAUSED, decision.reason)
    if not decision.known:
        reason = Reason.DECISION_FAILED if decision.failed else Reason.HOLDING
        return verdict("False", reason, decision.reason)
    return verdict(
        "True", Reason.RECOMMENDING if bounds.recommend else Reason.FOLLOWING_LOAD, decision.reason
    )


def _lacks_prometheus(resolved: Resolved) -> bool:
    """Whether the service scales by metrics, and no Prometheus is named."""
    bounds = resolved.bounds
    return bounds.follows_load and not bounds.paused and resolved.prometheus is None


def _building(outcome: Outcome) -> Verdict | None:
    """Return the condition Reconciling, or Stalled, while a build is awaited."""
    source = outcome.building
    if source is None or source.problem is None or not source.waits:
        return None
    kind = Condition.STALLED if source.problem[0] == Reason.BUILD_FAILED else Condition.RECONCILING
    return Verdict(kind, "True", *source.problem)


def _progress(
    observed: Observed,
    outcome: Outcome,
    *,
    serving: Sequence[ObservedPod],
    ready: Sequence[ObservedPod],
) -> Verdict | None:
    """Return the condition Reconciling while the cluster is not in the desired state."""
    rollout = outcome.rollout
    if rollout is None:
        return None
    if rollout.active != rollout.wanted and (waiting := _waits_for_quota(outcome, rollout)):
        return Verdict(Condition.RECONCILING, "True", Reason.QUOTA_EXCEEDED, waiting)
    coming = [pod for pod in (*serving, *observed.workers) if pod.revision == rollout.wanted]
    moves = rollout.rejected or outcome.fetching is None
    if moves and (found := rollouts.condition(outcome, trouble=_trouble(coming))):
        return found
    if rollout.active != rollout.wanted:
        message = (
            f"Revision {rollout.active} stops before revision {rollout.wanted} starts."
            if outcome.resolved is not None and outcome.resolved.recreate
            else f"Revision {rollout.wanted} is starting while revision {rollout.active} serves requests."
        )
        if outcome.fetching is not None:
            message = f"Revision {rollout.wanted} waits for its model: {outcome.fetching.message}"
        elif trouble := _trouble(coming):
            message = f"{message} {trouble[0]}: {trouble[1]}"
        return Verdict(Condition.RECONCILING, "True", Reason.ROLLING_OUT, message)
    if outcome.router is not None:
        return Verdict(
            Condition.RECONCILING,
            "True",
            outcome.router.reason,
            f"The router can't be changed, and keeps its last configuration: {outcome.router.message}",
        )
    if _waits_for_router(outcome):
        return Verdict(
            Condition.RECONCILING,
            "True",
            Reason.ROUTER_NOT_READY,
            f"The Service selects the engines until Deployment {contract.ROUTER_NAME} is available and has loaded the "
            "service's configuration.",
        )
    wanted = next(entry.replicas for entry in rollout.revisions if entry.hash == rollout.active)
    if len(ready) < wanted or len(serving) > wanted:
        message = _counted(len(ready), wanted)
        if len(ready) >= wanted:
            message = (
                f"Stopping {len(serving) - wanted} of {wording.counted(len(serving), 'engine')}."
            )
        if outcome.loss:
            message = f"{message} {outcome.loss}"
        elif trouble := _trouble(serving):
            message = f"{message} {trouble[0]}: {trouble[1]}"
        elif lost := losses.of(observed):
            message = f"{message} {lost.reason}: {lost.message}"
        return Verdict(Condition.RECONCILING, "True", Reason.STARTING, message)
    return None


def _waits_for_quota(outcome: Outcome, rollout: revisions.Rollout) -> str | None:
    """Return the message if the namespace's quota keeps a new revision from starting; otherwise None."""
    resolved = outcome.resolved
    counts = {revision.hash: revision.replicas for revision in rollout.revisions}
    if resolved is None or resolved.share is None or resolved.recreate:
        return None
    if counts[rollout.wanted] or not counts[rollout.active]:
        return None
    if resolved.steps is not None and resolved.steps.surge == 0:
        return None
    most = resolved.share.replicas + resolved.share.surge
    return (
        f"Revision {rollout.wanted} waits because the namespace's quota of accelerators allows "
        f"{wording.replicas(most)} of this service, and revision {rollout.active} runs {counts[rollout.active]}. Use "
        "rollout.strategy: Recreate or rollout.surge: 0, fewer replicas during the rollout, or ask the platform team "
        "for more accelerators."
    )


def _waits_for_router(outcome: Outcome) -> bool:
    return (
        outcome.resolved is not None
        and outcome.rollout is not None
        and outcome.resolved.routing.mode == "Router"
        and not outcome.rollout.by_router
    )
