"""Status of a service, from the observed, resolved, decided and measured values."""

import re
from collections.abc import Mapping
from typing import Any, Final

from slipstream_operator.api.conditions import Verdict, merge
from slipstream_operator.api.status import ConditionStatus, InferenceServiceStatus
from slipstream_operator.core.observed import Observed, Parent
from slipstream_operator.core.render import common, service
from slipstream_operator.core.status import conditions, figures, rollouts
from slipstream_operator.core.status.outcome import Outcome
from slipstream_operator.names import Condition, Reason

QUIET_SECONDS: Final = 60.0
"""Minimum seconds between two writes of a status in which only numbers changed."""


def summarise(observed: Observed, outcome: Outcome, *, now: str) -> dict[str, Any]:
    """Return the status to write."""
    parent = observed.parent
    active = outcome.rollout.active if outcome.rollout else None
    serving = observed.pods
    ready = [pod for pod in serving if pod.ready and active in (None, pod.revision)]
    verdicts = conditions.verdicts(observed, outcome, serving=serving, ready=ready)
    merged = merge(verdicts, before=parent.conditions, generation=parent.generation, now=now)
    status = InferenceServiceStatus(
        observed_generation=parent.generation,
        url=(outcome.gateway and outcome.gateway.url)
        or service.url(
            parent.key, secure=outcome.resolved is not None and outcome.resolved.routing.secure
        ),
        replicas=len(serving),
        ready_replicas=len(ready),
        selector=",".join(
            f"{key}={value}" for key, value in common.selector(parent.key.name).items()
        ),
        conditions=[ConditionStatus(**condition.model_dump()) for condition in merged],
        slo=figures.objectives(outcome) or None,
        scaling=figures.scaling(outcome),
        engine=figures.engine(outcome, serving=serving),
        profile=figures.profile(outcome),
        builds=figures.builds(outcome) or None,
        revisions=rollouts.revisions(
            parent.key.name, outcome, listed=observed.router.active, serving=serving
        ),
    ).model_dump(by_alias=True, exclude_none=True)
    if outcome.rejected is not None:
        kept = ("slo", "scaling", "engine", "profile", "builds", "revisions")
        status |= {key: parent.status[key] for key in kept if key in parent.status}
    return status


def with_fault(parent: Parent, fault: Exception, *, now: str) -> dict[str, Any]:
    """Return the last status with a condition about a fault of the operator, without data of the fault."""
    verdict = Verdict(
        Condition.STALLED,
        "True",
        Reason.RECONCILE_FAILED,
        f"The operator failed on this object ({type(fault).__name__}) and retries. Its log has the cause.",
    )
    before = parent.conditions
    (stalled,) = merge([verdict], before=before, generation=parent.generation, now=now)
    kept = [condition for condition in before if condition.type != Condition.STALLED]
    conditions = [
        condition.model_dump(by_alias=True, exclude_none=True) for condition in (*kept, stalled)
    ]
    return {**parent.status, "conditions": conditions}


def worth_writing(
    old: Mapping[str, Any], new: Mapping[str, Any], *, since_last_write: float
) -> bool:
    """Whether to write the status: at once if a condition or a decision changed, otherwise once a minute."""
    if old == new:
        return False
    return since_last_write >= QUIET_SECONDS or _essence(old) != _essence(new)


def _essence(status: Mapping[str, Any]) -> dict[str, Any]:
    """Return the status without the numbers that change constantly."""
    essence = {
        key: status.get(key)
        for key in (
            "observedGeneration",
            "url",
            "replicas",
            "readyReplicas",
            "selector",
            "builds",
        )
    }
    essence["revisions"] = [
        {key: value for key, value in revision.items() if key != "message"}
        for revision in status.get("revisions", [])
    ]
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
        if key not in ("acceptance", "speculationGain", "speculationByBatch")
    }
    return essence


def _step(condition: Mapping[str, Any]) -> str | None:
    """Return the progress that a message shows: tenths of a download or build, nodes of a prefetch, gateways."""
    prefetch = re.search(r"Prefetch: [^:.]*", condition["message"])
    if condition["reason"] == Reason.BUILD_RUNNING:
        return re.sub(r"(\d*)\d%.*", r"\g<1>0%", condition["message"])
    if condition["reason"] == Reason.FETCHING:
        percent = re.search(r"(\d+)%", condition["message"])
        step = f"{int(percent[1]) // 10}" if percent else condition["message"]
        return f"{step} {prefetch[0]}" if prefetch else step
    if prefetch:
        return prefetch[0]
    whole = (
        Reason.GATEWAY_UNAVAILABLE,
        Reason.GATEWAY_NOT_READY,
        Reason.FOREIGN_PODS,
        Reason.KEYS_REFUSED,
        Reason.BUILD_FAILED,
        Reason.BUILD_MISSING,
    )
    return condition["message"] if condition["reason"] in whole else None
