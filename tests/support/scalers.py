"""A scaling loop with services that were reconciled before, and what Prometheus answers it."""

from typing import Any

from slipstream_operator import names
from slipstream_operator.core import resolve, revisions
from slipstream_operator.core.observed import Key
from slipstream_operator.core.scaling.metrics.values import Sample
from slipstream_operator.core.tick import Scaling
from slipstream_operator.shell.queue import Queue
from slipstream_operator.shell.scaler import Scaler
from slipstream_operator.shell.service_states import ServiceState, ServiceStates
from slipstream_operator.shell.store import Store
from tests.support import fakes, given

SPEC: dict[str, Any] = {
    "model": given.MODEL,
    "slo": {"ttft": {"p95": "500ms"}},
    "scaling": {"maxReplicas": 9},
}
FIXED: dict[str, Any] = {"model": given.MODEL, "replicas": 2}


class Loop:
    """A scaler with services that were reconciled before."""

    def __init__(self, metrics: fakes.Metrics) -> None:
        self.metrics, self.clock = metrics, fakes.Clock()
        self.store, self.states, self.queue = Store(), ServiceStates(), Queue()
        self.scaler = Scaler(
            store=self.store,
            states=self.states,
            queue=self.queue,
            metrics=metrics,
            clock=self.clock,
            telemetry=fakes.telemetry(),
        )

    def serve(
        self,
        name: str = given.NAME,
        *,
        spec: dict[str, Any] = SPEC,
        ready: int = 1,
        desired: int = 1,
        profile: Any = None,
    ) -> ServiceState:
        key = Key(given.NAMESPACE, name)
        parent = given.parent(spec, key=key)
        observed = given.observed(parent=parent, profiles=[profile or given.profile()])
        service = self.states.of(key)
        service.resolved = resolve.resolve(observed)
        service.rollout = revisions.roll_out(
            observed, service.resolved, replicas=desired, now=given.MOMENT
        )
        service.record(Scaling(state=given.state(desired)))
        body = fakes.service_body(spec, key=key)
        self.store.feed(names.INFERENCE_SERVICE, body, gone=False)
        for number in range(ready):
            pod = fakes.pod_body(
                service.rollout.active, name=f"{name}-{number}", service=name, uid=f"{name}{number}"
            )
            self.store.feed("Pod", pod, gone=False)
        return service


def series(value: float, *, ready: int = 1, name: str = given.NAME) -> list[Sample]:
    return [
        Sample({"namespace": given.NAMESPACE, "service": name, "pod": f"{name}-{number}"}, value)
        for number in range(ready)
    ]


GAUGES = {
    "running": 4.0,
    "waiting": 2.0,
    "kv": 0.5,
    "age": 1.0,
    "running_mean": 4.0,
    "waiting_mean": 2.0,
    "kv_mean": 0.5,
    "finished": 0.5,
}
RATES = (
    "output", "prompt", "steps", "itl_sum", "itl_count", "started", "rejected", "preempted",
)  # fmt: skip


def busy(ready: int = 1) -> fakes.Metrics:
    """Every engine has requests that wait, and the first token takes a second."""
    labels = {"namespace": given.NAMESPACE, "service": given.NAME}
    buckets = [
        Sample({**labels, "le": le}, n) for le, n in (("0.5", 0.0), ("1.0", 90.0), ("+Inf", 90.0))
    ]
    return fakes.Metrics(
        {
            **{name: series(value, ready=ready) for name, value in GAUGES.items()},
            **{name: [] for name in RATES},
            "ttft:now": buckets,
        }
    )
