"""Status of a service: conditions and numbers from the observed, resolved, decided and measured values."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from slipstream_operator import names
from slipstream_operator.api import conditions, units
from slipstream_operator.api import status as api
from slipstream_operator.api.conditions import Verdict
from slipstream_operator.core import gateway as gateways
from slipstream_operator.core import objectives, pod_failures, revisions
from slipstream_operator.core.fetching import Standing
from slipstream_operator.core.observed import Observed, Pod, Ref
from slipstream_operator.core.render import common, service
from slipstream_operator.core.resolve import Resolved
from slipstream_operator.core.scaling.signals import Load, Reading, Unknown
from slipstream_operator.core.scaling.state import Decision, State
from slipstream_operator.core.speculation import Guesses
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Condition, Reason
from slipstream_runtime import contract

QUIET_SECONDS: Final = 60.0
"""Numbers alone are written no more often than this."""
_REPLACED_SECONDS: Final = 300.0
"""Seconds within which a pod that is gone is replaced: a node that does not answer keeps its pods for five minutes."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """Measurements of a service at the last tick of the scaling loop."""

    load: Load | Unknown
    readings: tuple[Reading, ...] | Unknown
    guesses: Guesses | None = None
    gain: float | None = None
    loss: str | None = None
    """That speculation has made decoding slower for long enough to say so."""
    kv_capacity: int | None = None
    adapters: Mapping[str, bool] = dataclasses.field(default_factory=dict)
    """LoRA adapter -> whether every engine has it loaded."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Outcome of one reconcile."""

    rejected: PermanentError | None = None
    resolved: Resolved | None = None
    rollout: revisions.Rollout | None = None
    conflicts: tuple[Ref, ...] = ()
    failures: tuple[str, ...] = ()
    decision: Decision | None = None
    state: State | None = None
    measured: Measured | None = None
    gateway: gateways.Standing | None = None
    """How the service stands at its inference gateway, if it names one."""
    fetching: Standing | None = None
    """State of the download or inspection that engines wait for."""
    loss: str | None = None
    """Why a group of pods that are one replica restarts."""
    prefetch: str | None = None
    """Number of nodes that have pulled the images ahead, in words."""

    @property
    def at_zero(self) -> bool:
        """Whether no engine shall run until a request comes."""
        return (
            self.resolved is not None
            and self.resolved.bounds.follows_load
            and self.decision is not None
            and self.decision.desired == 0
        )


def summarise(observed: Observed, outcome: Outcome, *, now: str) -> dict[str, Any]:
    """The status to write."""
    parent = observed.parent
    active = outcome.rollout.active if outcome.rollout else None
    serving = [pod for pod in observed.live_pods if not pod.deleting]
    ready = [pod for pod in serving if pod.ready and active in (None, pod.revision)]
    verdicts = _verdicts(observed, outcome, serving=serving, ready=ready)
    merged = conditions.merge(
        verdicts, before=parent.conditions, generation=parent.generation, now=now
    )
    status = api.InferenceServiceStatus(
        observed_generation=parent.generation,
        url=(outcome.gateway and outcome.gateway.url) or service.url(parent.key),
        replicas=len(serving),
        ready_replicas=len(ready),
        selector=",".join(
            f"{key}={value}" for key, value in common.selector(parent.key.name).items()
        ),
        conditions=[api.ConditionStatus(**condition.model_dump()) for condition in merged],
        slo=_objectives(outcome) or None,
        scaling=_scaling(outcome),
        engine=_engine(outcome),
        revisions=_revisions(parent.key.name, outcome, ready=ready, serving=serving),
    ).model_dump(by_alias=True, exclude_none=True)
    if outcome.rejected is not None:
        kept = ("slo", "scaling", "engine", "revisions")
        status |= {key: parent.status[key] for key in kept if key in parent.status}
    return status


def worth_writing(
    old: Mapping[str, Any], new: Mapping[str, Any], *, since_last_write: float
) -> bool:
    """Whether the API server should hear of it: at once if a condition or a decision changed, else once a minute."""
    if old == new:
        return False
    return since_last_write >= QUIET_SECONDS or _essence(old) != _essence(new)


def _essence(status: Mapping[str, Any]) -> dict[str, Any]:
    """The status without numbers that move all the time."""
    essence = {
        key: status.get(key)
        for key in (
            "observedGeneration",
            "url",
            "replicas",
            "readyReplicas",
            "selector",
            "revisions",
        )
    }
    essence["conditions"] = [
        (condition["type"], condition["status"], condition["reason"], _step(condition))
        for condition in status.get("conditions", [])
    ]
    essence["desired"] = status.get("scaling", {}).get("desired")
    essence["slo"] = [
        (entry["objective"], entry["target"], entry.get("current") is None)
        for entry in status.get("slo", [])
    ]
    essence["engine"] = {
        key: value
        for key, value in status.get("engine", {}).items()
        if key not in ("acceptance", "speculationGain")
    }
    return essence


def _step(condition: Mapping[str, Any]) -> str | None:
    """Return the step behind one reason: of a service at a gateway, tenths of a download, nodes of a prefetch."""
    prefetch = re.search(r"Prefetch: [^:.]*", condition["message"])
    if condition["reason"] == Reason.FETCHING:
        percent = re.search(r"(\d+)%", condition["message"])
        step = f"{int(percent[1]) // 10}" if percent else condition["message"]
        return f"{step} {prefetch[0]}" if prefetch else step
    if prefetch:
        return prefetch[0]
    gateway = condition["reason"] in (Reason.GATEWAY_UNAVAILABLE, Reason.GATEWAY_NOT_READY)
    return condition["message"] if gateway else None


def _verdicts(
    observed: Observed, outcome: Outcome, *, serving: Sequence[Pod], ready: Sequence[Pod]
) -> list[Verdict]:
    accepted = _accepted(outcome)
    refused = [child.trouble for child in observed.children if child.trouble]
    available = _available(observed, outcome, serving=serving, ready=ready, refused=refused)
    loaded = _model_ready(outcome, available, ready)
    if outcome.prefetch is not None:
        loaded = dataclasses.replace(loaded, message=f"{loaded.message} {outcome.prefetch}")
    verdicts = [
        _ready(accepted, available, loaded),
        accepted,
        loaded,
        available,
        _slo_met(outcome),
        _scaling_active(outcome),
    ]
    if outcome.rejected is not None:
        verdicts.append(
            Verdict(Condition.STALLED, "True", outcome.rejected.reason, outcome.rejected.message)
        )
    elif over := _over_quota(outcome):
        verdicts.append(Verdict(Condition.STALLED, "True", Reason.QUOTA_EXCEEDED, over))
    elif progress := _progress(observed, outcome, serving=serving, ready=ready):
        verdicts.append(progress)
    return verdicts


def _accepted(outcome: Outcome) -> Verdict:
    if outcome.rejected is not None:
        return Verdict(
            Condition.ACCEPTED, "False", outcome.rejected.reason, outcome.rejected.message
        )
    if over := _over_quota(outcome):
        return Verdict(Condition.ACCEPTED, "False", Reason.QUOTA_EXCEEDED, over)
    return Verdict(Condition.ACCEPTED, "True", Reason.ACCEPTED, "The object is valid.")


def _over_quota(outcome: Outcome) -> str | None:
    """Return why the namespace's quota leaves the service nothing, if that is so."""
    resolved = outcome.resolved
    return resolved.share.refused if resolved is not None and resolved.share is not None else None


def _available(
    observed: Observed,
    outcome: Outcome,
    *,
    serving: Sequence[Pod],
    ready: Sequence[Pod],
    refused: Sequence[str],
) -> Verdict:
    def verdict(reason: str, message: str, status: conditions.ConditionStatus = "False") -> Verdict:
        return Verdict(Condition.AVAILABLE, status, reason, message)

    if outcome.conflicts:
        held = ", ".join(str(ref) for ref in outcome.conflicts)
        return verdict(
            Reason.NAME_CONFLICT,
            f"{held} exists and is not ours, so it is left alone: delete or rename it, or rename this object",
        )
    if outcome.failures:
        return verdict(Reason.REJECTED, "; ".join(outcome.failures))
    by_router = outcome.rollout is not None and outcome.rollout.by_router
    if (outcome.at_zero or ready) and by_router and not observed.router.answers:
        why = observed.router.trouble or "none of its pods is ready"
        return verdict(Reason.ROUTER_NOT_READY, f"Deployment {contract.ROUTER_NAME}: {why}")
    if outcome.at_zero:
        return verdict(
            Reason.SCALED_TO_ZERO,
            "No engine runs; the router holds the next request until one is ready.",
            "True",
        )
    if ready and outcome.gateway is not None and outcome.gateway.problem is not None:
        return verdict(*outcome.gateway.problem)
    if ready:
        return verdict(
            Reason.ENGINES_READY, f"{len(ready)} of {len(serving)} engines are ready.", "True"
        )
    if over := _over_quota(outcome):
        return verdict(Reason.QUOTA_EXCEEDED, over)
    if outcome.resolved is not None and outcome.resolved.bounds.maximum == 0:
        return verdict(Reason.STOPPED, "spec.replicas is 0.")
    if trouble := _trouble([*serving, *_live(observed.workers)]):
        return verdict(*trouble)
    if refused and not serving:
        return verdict(Reason.CREATE_FAILED, refused[0])
    if loss := _loss(observed):
        return verdict(*loss)
    if outcome.fetching is not None and not serving:
        return verdict(outcome.fetching.reason, outcome.fetching.message)
    if outcome.loss is not None:
        return verdict(Reason.GROUP_RESTARTED, outcome.loss)
    if refused:
        return verdict(Reason.CREATE_FAILED, refused[0])
    if not serving:
        return verdict(Reason.PENDING, "No engine exists yet.")
    return verdict(Reason.STARTING, f"0 of {len(serving)} engines are ready.")


def _live(pods: Sequence[Pod]) -> list[Pod]:
    return [pod for pod in pods if not pod.deleting and not pod.ended]


def _trouble(pods: Sequence[Pod]) -> tuple[str, str] | None:
    """Return the reason and message of the newest pod that is in trouble."""
    troubled = sorted(
        (pod for pod in pods if pod.trouble and not pod.ready),
        key=lambda pod: (pod.created, pod.name),
    )
    if not troubled:
        return None
    newest = troubled[-1]
    assert newest.trouble is not None
    reason, message = newest.trouble
    return (reason, f"worker {newest.name}: {message}") if newest.worker else newest.trouble


def _loss(observed: Observed) -> tuple[str, str] | None:
    """Why the newest of the pods that were evicted, preempted or lost with their node is gone.

    NB: pods that ended stay for days, so this is over once a pod became ready after it, and it explains no pods that
    were made long after it, such as after a night without replicas.
    """
    gone = sorted(
        (pod.ended_at or pod.created, pod.name, pod.trouble)
        for pod in (*observed.pods, *observed.workers)
        if pod.trouble and pod.trouble[0] in pod_failures.LOST and (pod.ended or pod.deleting)
    )
    if not gone:
        return None
    ended, _, trouble = gone[-1]
    live = [pod for pod in observed.live_pods if not pod.deleting]
    if any(pod.ready and (pod.ready_since or "") > ended for pod in live):
        return None
    coming = [
        units.moment(pod.created) for pod in (*live, *_live(observed.workers)) if not pod.ready
    ]
    replaced = not coming or min(coming) <= units.moment(ended) + _REPLACED_SECONDS
    return trouble if replaced else None


def _model_ready(outcome: Outcome, available: Verdict, ready: Sequence[Pod]) -> Verdict:
    if ready:
        return Verdict(
            Condition.MODEL_READY, "True", Reason.LOADED, "The model answered a completion."
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
            "The model loads when a request comes.",
        )
    return Verdict(Condition.MODEL_READY, "False", Reason.NOT_LOADED, available.message)


def _ready(*needed: Verdict) -> Verdict:
    for verdict in needed:
        if verdict.status != "True":
            return Verdict(Condition.READY, "False", verdict.reason, verdict.message)
    return Verdict(Condition.READY, "True", Reason.ENGINES_READY, "The service answers.")


def _slo_met(outcome: Outcome) -> Verdict:
    def verdict(status: conditions.ConditionStatus, reason: str, message: str) -> Verdict:
        return Verdict(Condition.SLO_MET, status, reason, message)

    if outcome.resolved is not None and not outcome.resolved.objectives.latency:
        return verdict("Unknown", Reason.NO_OBJECTIVES, "spec.slo names no latency objective.")
    if outcome.measured is None:
        return verdict("Unknown", Reason.NO_METRICS, "Nothing was measured yet.")
    readings = outcome.measured.readings
    if isinstance(readings, Unknown):
        return verdict("Unknown", Reason.NO_METRICS, readings.reason)
    measured = [reading for reading in readings if reading.telling]
    if not measured:
        return verdict("Unknown", Reason.NO_TRAFFIC, "Too few requests to judge by.")
    if outcome.decision and outcome.decision.infeasible:
        return verdict("False", Reason.INFEASIBLE, outcome.decision.infeasible)
    missed = [reading for reading in measured if reading.over]
    if missed:
        return verdict("False", Reason.MISSED, "; ".join(map(_in_words, missed)))
    return verdict("True", Reason.MET, "; ".join(map(_in_words, measured)))


def _in_words(reading: Reading) -> str:
    current = units.format_seconds(reading.current or 0)
    return f"{reading.objective.name} is {current} of {reading.objective.text}"


def _scaling_active(outcome: Outcome) -> Verdict:
    def verdict(status: conditions.ConditionStatus, reason: str, message: str) -> Verdict:
        return Verdict(Condition.SCALING_ACTIVE, status, reason, message)

    if outcome.resolved is None or outcome.decision is None:
        return verdict("Unknown", Reason.PENDING, "Nothing was decided yet.")
    bounds, decision = outcome.resolved.bounds, outcome.decision
    if not bounds.follows_load:
        return verdict("False", Reason.FIXED, decision.reason)
    if bounds.paused:
        return verdict("False", Reason.PAUSED, decision.reason)
    if not decision.known:
        return verdict("False", Reason.HOLDING, decision.reason)
    return verdict(
        "True", Reason.RECOMMENDING if bounds.recommend else Reason.SCALING, decision.reason
    )


def _progress(
    observed: Observed, outcome: Outcome, *, serving: Sequence[Pod], ready: Sequence[Pod]
) -> Verdict | None:
    """Reconciling, while the world is not yet what the object asks for."""
    rollout = outcome.rollout
    if rollout is None:
        return None
    if rollout.active != rollout.wanted:
        if waiting := _waits_for_quota(outcome, rollout):
            return Verdict(Condition.RECONCILING, "True", Reason.QUOTA_EXCEEDED, waiting)
        coming = [
            pod for pod in (*serving, *_live(observed.workers)) if pod.revision == rollout.wanted
        ]
        message = (
            f"revision {rollout.active} stops before {rollout.wanted} starts"
            if outcome.resolved is not None and outcome.resolved.recreate
            else f"revision {rollout.wanted} starts beside {rollout.active}, which serves"
        )
        if outcome.fetching is not None:
            message = f"revision {rollout.wanted} waits for its model: {outcome.fetching.message}"
        elif trouble := _trouble(coming):
            message = f"{message}; {trouble[0]}: {trouble[1]}"
        return Verdict(Condition.RECONCILING, "True", Reason.ROLLING_OUT, message)
    if _waits_for_router(outcome):
        return Verdict(
            Condition.RECONCILING,
            "True",
            Reason.ROUTER_NOT_READY,
            f"the Service selects the engines until Deployment {contract.ROUTER_NAME} is available and knows "
            "the service",
        )
    wanted = next(entry.replicas for entry in rollout.revisions if entry.hash == rollout.active)
    if len(ready) < wanted or len(serving) > wanted:
        message = f"{len(ready)} of {wanted} engines are ready."
        if outcome.loss:
            message = f"{message} {outcome.loss}"
        elif trouble := _trouble(serving) or _loss(observed):
            message = f"{message} {trouble[0]}: {trouble[1]}"
        return Verdict(Condition.RECONCILING, "True", Reason.STARTING, message)
    return None


def _waits_for_quota(outcome: Outcome, rollout: revisions.Rollout) -> str | None:
    """Return why a revision can't start beside the one that serves, if the namespace's quota is why."""
    resolved = outcome.resolved
    counts = {revision.hash: revision.replicas for revision in rollout.revisions}
    if resolved is None or resolved.share is None or resolved.recreate:
        return None
    if counts[rollout.wanted] or not counts[rollout.active]:
        return None
    most = resolved.share.replicas + resolved.share.surge
    return (
        f"revision {rollout.wanted} waits: the namespace's quota of accelerators leaves this service {most} replicas, "
        f"and {rollout.active} runs {counts[rollout.active]}. Use rollout.strategy: Recreate, fewer replicas for a "
        "while, or ask the platform team for more"
    )


def _waits_for_router(outcome: Outcome) -> bool:
    return (
        outcome.resolved is not None
        and outcome.rollout is not None
        and outcome.resolved.routing.mode == "Router"
        and not outcome.rollout.by_router
    )


def _objectives(outcome: Outcome) -> list[api.ObjectiveStatus]:
    if outcome.resolved is None:
        return []
    measured = outcome.measured
    readings = measured.readings if measured else Unknown("nothing was measured yet")
    by_name = (
        {}
        if isinstance(readings, Unknown)
        else {reading.objective.name: reading for reading in readings}
    )
    entries = [
        _objective(objective, by_name.get(objective.name))
        for objective in outcome.resolved.objectives.latency
    ]
    throughput = outcome.resolved.objectives.throughput
    if throughput is not None:
        load = measured.load if measured else None
        entries.append(
            api.ObjectiveStatus(
                objective="throughput",
                metric="throughput",
                target=f"{throughput}/s",
                current=f"{load.tokens_per_second:.0f}/s" if isinstance(load, Load) else None,
            )
        )
    return entries


def _objective(objective: objectives.Objective, reading: Reading | None) -> api.ObjectiveStatus:
    attained = reading.attainment if reading else {}
    over_a_day = attained.get("1d")
    return api.ObjectiveStatus(
        objective=objective.name,
        metric=objective.metric,
        percentile=objective.percentile,
        target=objective.text,
        current=units.format_seconds(reading.current)
        if reading and reading.current is not None
        else None,
        attainment5m=_percent(attained.get("5m")),
        attainment1h=_percent(attained.get("1h")),
        budget_remaining=None
        if over_a_day is None
        else _percent(objectives.budget_remaining(objective.share, over_a_day)),
    )


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share * 100:.1f}%"


def _scaling(outcome: Outcome) -> api.ScalingStatus | None:
    decision, state = outcome.decision, outcome.state
    if decision is None or state is None:
        return None
    return api.ScalingStatus(
        desired=decision.desired,
        reason=decision.reason[:1024],
        since=units.timestamp(state.since),
        inputs=_inputs(outcome, decision),
        model=_model(state),
        cold_start=f"{state.cold.p90:.0f}s" if state.cold.known else None,
        limited=decision.limited or _capped(outcome, decision),
    )


def _capped(outcome: Outcome, decision: Decision) -> str | None:
    """Return how the namespace's quota keeps a service that has all of its share from more."""
    resolved = outcome.resolved
    if resolved is None or resolved.share is None or decision.desired < resolved.bounds.maximum:
        return None
    return resolved.share.capped


def _inputs(outcome: Outcome, decision: Decision) -> str | None:
    """The numbers that the decision was made from, as `name=value`."""
    load = outcome.measured.load if outcome.measured else None
    if not isinstance(load, Load):
        return None
    parts = [
        f"inFlight={load.in_flight:.0f} waiting={load.waiting:.0f} kv={load.kv_usage:.0%}",
        f"tokensPerSecond={load.tokens_per_second:.0f}",
    ]
    if (numbers := decision.numbers) is not None:
        parts += [
            f"requestsPerSecond={numbers.requests:.1f} work={numbers.work:.2f}",
            f"utilisation={numbers.utilisation:.0%} need={numbers.need} ready={numbers.ready}",
            f"starting={numbers.starting} horizon={numbers.horizon:.0f}s",
        ]
    return " ".join(parts)


def _model(state: State) -> str | None:
    """The step time in short, or what one replica carries where no step time is known."""
    fitted = state.model.coefficients
    if fitted is None:
        return None if state.concurrency is None else f"concurrency={state.concurrency:.1f}"
    corrections = "".join(
        f" {metric}x{factor:.2f}" for metric, factor in sorted(state.feedback.corrections.items())
    )
    return (
        f"step={fitted.alpha * 1e3:.2f}ms +{fitted.beta * 1e6:.1f}us/request "
        f"+{fitted.gamma * 1e9:.1f}ns/kvToken +{fitted.delta * 1e6:.1f}us/promptToken "
        f"(1 sd {state.model.uncertainty:.0%}) kappa={state.feedback.kappa:.2f}{corrections}"
    )


def _engine(outcome: Outcome) -> api.EngineStatus | None:
    resolved, measured = outcome.resolved, outcome.measured
    if resolved is None:
        return None
    return api.EngineStatus(
        runtime=resolved.runtime,
        accelerator=resolved.accelerator,
        quantization=resolved.quantization if resolved.runtime == "vllm" else None,
        speculation=resolved.speculation,
        speculation_disabled=resolved.speculation_disabled,
        acceptance=_percent(measured.guesses.acceptance) if measured and measured.guesses else None,
        speculation_gain=_gain(resolved, measured),
        speculation_loss=measured.loss if measured else None,
        max_length=resolved.max_length,
        kv_capacity_tokens=measured.kv_capacity if measured else None,
        adapters=_adapters(resolved.adapters, measured.adapters if measured else {}),
    )


def _gain(resolved: Resolved, measured: Measured | None) -> str | None:
    """Return the gain of speculation; unknown where nothing was sampled, as on GPUs. None without speculation."""
    if measured is None:
        return None
    if measured.gain is not None:
        return f"at most {measured.gain:.2f}"
    return None if resolved.speculation is None else "unknown"


def _adapters(listed: Mapping[str, str] | None, loaded: Mapping[str, bool]) -> str | None:
    """Return the adapters that clients can ask for, then the others."""
    if not listed:
        return None
    ready = [name for name in listed if loaded.get(name)]
    failed = [name for name in listed if loaded.get(name) is False]
    coming = [name for name in listed if name not in loaded]
    groups = (("", ready), ("not loaded: ", failed), ("not known yet: ", coming))
    return "; ".join(f"{what}{', '.join(members)}" for what, members in groups if members)[:1024]


def _revisions(
    name: str, outcome: Outcome, *, ready: Sequence[Pod], serving: Sequence[Pod]
) -> list[api.RevisionStatus] | None:
    rollout = outcome.rollout
    if rollout is None or len(rollout.revisions) < 2:
        return None
    return [
        api.RevisionStatus(
            name=names.revision_name(name, revision.hash),
            hash=revision.hash,
            weight=100 if revision.hash == rollout.active else 0,
            replicas=sum(pod.ready for pod in serving if pod.revision == revision.hash),
        )
        for revision in rollout.revisions
    ]
