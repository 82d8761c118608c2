"""Kinds that a cluster may lack and get at any time, looked at now and then instead of being watched.

kopf looks for a new kind once, when its definition changes, which may be before the API server serves it: then it is
never watched. These kinds tell how things stand and carry no traffic, so seconds do not matter. The pods of a
LeaderWorkerSet carry it, and pods are watched.
"""

import asyncio
import logging
from typing import Any, Final

from slipstream_operator import errors, names, ports
from slipstream_operator.shell.queue import Queue
from slipstream_operator.shell.store import Store

EVERY: Final = 3.0
POLLED: Final[dict[str, tuple[str, str, str]]] = {
    names.GATEWAY: ("gateway.networking.k8s.io", "v1", "gateways"),
    names.HTTP_ROUTE: ("gateway.networking.k8s.io", "v1", "httproutes"),
    names.INFERENCE_POOL: ("inference.networking.k8s.io", "v1", "inferencepools"),
    names.LEADER_WORKER_SET: ("leaderworkerset.x-k8s.io", "v1", "leaderworkersets"),
}

logger = logging.getLogger(__name__)


class Poller:
    """Keeps what the store knows of the polled kinds."""

    def __init__(self, *, store: Store, queue: Queue, cluster: ports.Cluster) -> None:
        self._store = store
        self._queue = queue
        self._cluster = cluster
        self._known: dict[str, dict[str, dict[str, Any]]] = {}

    async def run(self, *, every: float = EVERY) -> None:
        """Look until cancelled; while the API server does not answer, what was seen last stays."""
        while True:
            try:
                await self.poll()
            except errors.TransientError as error:
                logger.warning("poll failed", extra={"error": str(error)})
            await asyncio.sleep(every)

    async def poll(self) -> None:
        """Look once at every kind that the cluster has."""
        for kind in POLLED:
            found: dict[str, dict[str, Any]] = {}
            if self._store.has_kind(kind):
                ours = None if kind == names.GATEWAY else names.MANAGED_BY_SELECTOR
                bodies = await self._cluster.list_objects(kind, label_selector=ours)
                found = {body["metadata"]["uid"]: body for body in bodies}
            for uid, body in self._known.get(kind, {}).items():
                if uid not in found:
                    self._queue.add_all(self._store.feed(kind, body, gone=True))
            for body in found.values():
                self._queue.add_all(self._store.feed(kind, body, gone=False))
            self._known[kind] = found
