"""Kubernetes Events on users' objects, the same one at most once in ten minutes."""

import datetime
import hashlib
import logging
from collections.abc import Callable
from typing import Final

from slipstream_operator import errors, names
from slipstream_operator.adapters.cluster import Cluster
from slipstream_operator.core.happenings import Happening
from slipstream_operator.core.observed import Key

QUIET_SECONDS: Final = 600.0
_NOTE_LENGTH: Final = 1024

logger = logging.getLogger(__name__)


class Events:
    """`ports.Events` on a real API server."""

    def __init__(self, cluster: Cluster, *, instance: str, monotonic: Callable[[], float]) -> None:
        self._cluster = cluster
        self._instance = instance
        self._monotonic = monotonic
        self._told: dict[tuple[str, Happening], float] = {}

    async def tell(self, key: Key, uid: str, happening: Happening) -> None:
        """Post one Event; a failure is logged and forgotten, since Events are best effort."""
        now = self._monotonic()
        self._forget(before=now - QUIET_SECONDS)
        if (uid, happening) in self._told:
            return
        self._told[uid, happening] = now
        moment = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        unique = hashlib.sha256(f"{uid}{moment}{happening}".encode()).hexdigest()[:12]
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{key.name}.{unique}", "namespace": key.namespace},
            "eventTime": moment,
            "reportingController": f"{names.GROUP}/{names.OPERATOR}",
            "reportingInstance": self._instance,
            "action": "Reconcile",
            "type": happening.type,
            "reason": happening.reason,
            "note": happening.message[:_NOTE_LENGTH],
            "regarding": {
                "apiVersion": names.API_VERSION,
                "kind": key.kind,
                "name": key.name,
                "namespace": key.namespace,
                "uid": uid,
            },
        }
        try:
            await self._cluster.send("create", "Event", body=body, namespace=key.namespace)
        except errors.TransientError as error:
            logger.warning("event not posted", extra={"key": str(key), "error": str(error)})

    def _forget(self, *, before: float) -> None:
        """Drop what was told earlier; the dict is in order of time."""
        while self._told and next(iter(self._told.values())) <= before:
            del self._told[next(iter(self._told))]
