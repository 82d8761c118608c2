"""A service with traffic, and the status that is computed from it."""

import dataclasses
import math
from typing import Any

from slipstream_operator.core import revisions, status
from slipstream_operator.core.observed import Observed, ObservedPod
from slipstream_operator.core.scaling.metrics.values import DraftTokens, Reading, Unknown
from slipstream_operator.core.scaling.models.coldstart import ColdStart
from slipstream_operator.core.scaling.models.steptime import Coefficients, StepTimeModel
from slipstream_operator.core.scaling.state import Decision, Numbers
from slipstream_operator.core.status.outcome import Measured, Outcome
from tests.support import given

SPEC: dict[str, Any] = {
    "model": given.MODEL,
    "slo": {"ttft": {"p95": "500ms"}, "throughput": {"outputTokensPerSecond": 900}},
    "scaling": {"maxReplicas": 4},
}

A = given.identity(SPEC)

RESOLVED = given.resolved(SPEC)

NUMBERS = Numbers(
    work=0.62,
    requests=9.5,
    utilization=0.62,
    need=1,
    ready=1,
    starting=0,
    horizon=120.0,
)

MODEL = StepTimeModel((), Coefficients(0.007, 20e-6, 60e-9, 32e-6), uncertainty=0.12)


def measure(*readings: Reading, unknown: str | None = None) -> Measured:
    if unknown:
        return Measured(load=Unknown(unknown), readings=Unknown(unknown))
    return Measured(
        load=given.load(8.0, waiting=1.0),
        readings=readings,
        draft_tokens=DraftTokens(200.0, 150.0),
        gain=1.163,
        kv_capacity=16000,
    )


def reconciled(**fields: Any) -> Outcome:
    base = Outcome(
        resolved=RESOLVED,
        rollout=revisions.Rollout(A, A, (revisions.Revision(A, 1),), by_router=True),
        decision=Decision(1, "Keeping 1 replica.", known=True, numbers=NUMBERS),
        state=given.state(1, since=0.0, model=MODEL, cold=ColdStart(3.0, math.log(90.0))),
        measured=measure(given.reading(_5m=0.99, _1h=0.98, _1d=0.975)),
    )
    return dataclasses.replace(base, **fields)


def bounded(minimum: int, maximum: int, **options: bool) -> dict[str, Any]:
    bounds = given.bounds(minimum, maximum, **options)
    return {"resolved": dataclasses.replace(RESOLVED, bounds=bounds)}


def summarize(
    *,
    pods: tuple[ObservedPod, ...] | None = None,
    old: Any = None,
    refused: str | None = None,
    **fields: Any,
) -> Any:
    """The status; `refused` is why the API server lets no pod of the Deployment be made."""
    observed = observe(pods=given.pods(A, 1) if pods is None else pods, old=old)
    if refused is not None:
        manifest = given.find(given.rendered(observed), "Deployment")
        child = dataclasses.replace(given.child(manifest), trouble=refused)
        observed = dataclasses.replace(observed, children=(child,))
    return status.summarise(observed, reconciled(**fields), now=given.NOW)


def observe(*, pods: tuple[ObservedPod, ...], old: Any = None) -> Observed:
    return given.observed(parent=given.parent(SPEC, generation=7, status=old), pods=pods)


def verdict(found: Any, kind: str) -> tuple[str, str, str] | None:
    for condition in found["conditions"]:
        if condition["type"] == kind:
            return condition["status"], condition["reason"], condition["message"]
    return None


UNSCHEDULABLE = ("Unschedulable", "0/3 nodes have a GPU")

ROLLING = revisions.Rollout(A, "b", (revisions.Revision(A, 1), revisions.Revision("b", 1)))
