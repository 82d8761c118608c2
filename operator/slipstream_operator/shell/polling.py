"""Polling of kinds that a cluster may lack, or get at any time.

kopf looks for a new kind once, when its definition changes. That may be before the API server serves the kind, which
is then never watched. Polled objects report a state and carry no traffic, so a few seconds do not matter. A
LeaderWorkerSet's pods do carry traffic, but pods are watched.
"""

import asyncio
import logging
from typing import Any, Final

from slipstream_operator import errors, kinds, names, ports
from slipstream_operator.shell.queue import Queue
from slipstream_operator.shell.store import Store

EVERY: Final = 3.0
"""Seconds between two polls."""

logger = logging.getLogger(__name__)


class Poller:
    """Keeps the store's copies of the polled kinds up to date."""

    def __init__(self, *, store: Store, queue: Queue, cluster: ports.Cluster) -> None:
        self._store = store
        self._queue = queue
        self._cluster = cluster
        self._known: dict[str, dict[str, dict[str, Any]]] = {}
        """Kind -> uid -> object, as of the last poll."""

    async def run(self, *, every: float = EVERY) -> None:
        """Poll until cancelled. While the API server does not answer, the last known objects stay."""
        while True:
            try:
                await self.poll()
            except errors.TransientError as error:
                logger.warning("poll failed", extra={"error": str(error)})
            await asyncio.sleep(every)

    async def poll(self) -> None:
        """List every polled kind that the cluster has, once."""
        for kind in kinds.POLLED:
            found: dict[str, dict[str, Any]] = {}
            if self._store.has_kind(kind.name):
                selector = names.MANAGED_BY_SELECTOR if kind.labeled else None
                bodies = await self._cluster.list_objects(kind.name, label_selector=selector)
                found = {body["metadata"]["uid"]: body for body in bodies}
            for uid, body in self._known.get(kind.name, {}).items():
                if uid not in found:
                    self._queue.add_all(self._store.feed(kind.name, body, gone=True))
            for body in found.values():
                self._queue.add_all(self._store.feed(kind.name, body, gone=False))
            self._known[kind.name] = found
