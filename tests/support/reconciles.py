"""One service, its reconciler, and what it applied."""

from collections.abc import Mapping
from typing import Any

from slipstream_operator import names
from slipstream_operator.core.observed import Ref
from slipstream_operator.shell.queue import Queue
from slipstream_operator.shell.service_reconciler import ServiceReconciler
from slipstream_operator.shell.service_states import ServiceStates
from slipstream_operator.shell.store import Store
from tests.support import fakes, given

HASH = given.identity()

DIRECT: dict[str, Any] = {"routing": {"mode": "Direct"}}

OLD = given.identity({"model": given.MODEL, **DIRECT})

DEPLOYMENT = Ref("Deployment", given.NAMESPACE, f"chat-{HASH}")

STATUS = ("status", "team/chat")


class World:
    """A reconciler, and a store that is fed by its cluster."""

    def __init__(self, spec: Mapping[str, Any] | None = None) -> None:
        self.store, self.states, self.clock = Store(), ServiceStates(), fakes.Clock()
        self.cluster, self.events = fakes.Cluster(), fakes.Events()
        self.progress = fakes.Progress()
        self.queue = Queue()
        self.cluster.on_change = lambda kind, body, gone: self.store.feed(kind, body, gone=gone)
        self.reconciler = ServiceReconciler(
            store=self.store,
            states=self.states,
            queue=self.queue,
            cluster=self.cluster,
            events=self.events,
            progress=self.progress,
            clock=self.clock,
            telemetry=fakes.telemetry(),
        )
        self.store.feed(names.SERVING_PROFILE, fakes.profile_body(), gone=False)
        self.writes(spec)

    def writes(self, spec: Mapping[str, Any] | None = None, **fields: Any) -> None:
        """The user applies the object."""
        body = fakes.service_body(spec, **fields)
        self.store.feed(names.INFERENCE_SERVICE, body, gone=False)

    async def reconcile(self) -> float | None:
        """Reconcile, and feed the written status back at once."""
        self.cluster.calls.clear()
        written = len(self.cluster.statuses)
        again = await self.reconciler.reconcile(given.KEY)
        if len(self.cluster.statuses) > written:
            observed = self.store.snapshot(given.KEY)
            assert observed is not None
            self.writes(observed.parent.spec, status=self.cluster.statuses[-1])
        return again

    def condition(self, kind: str) -> tuple[str, str]:
        conditions = self.cluster.statuses[-1]["conditions"]
        (found,) = (entry for entry in conditions if entry["type"] == kind)
        return found["status"], found["reason"]

    def starts_pods(self, revision: str = HASH) -> None:
        """The kubelet reports a ready engine."""
        body = fakes.pod_body(revision, name=f"pod-{revision}")
        self.store.feed("Pod", body, gone=False)


SCALED: dict[str, Any] = {"model": given.MODEL, "scaling": {"minReplicas": 2, "maxReplicas": 5}}
