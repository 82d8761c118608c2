"""Kubernetes Events on users' objects. A repeated Event is posted at most once in ten minutes."""

import datetime
import hashlib
import logging
from collections.abc import Callable
from typing import Final

from slipstream_operator import errors, names
from slipstream_operator.adapters.cluster import Cluster
from slipstream_operator.core.events import Event
from slipstream_operator.core.observed import Key

QUIET_SECONDS: Final = 600.0
"""Seconds for which repetitions of an Event are dropped."""
_NOTE_LENGTH: Final = 1024
"""Bytes of an Event's note, a limit of the API server."""

logger = logging.getLogger(__name__)


class Events:
    """`ports.Events` of an API server."""

    def __init__(self, cluster: Cluster, *, instance: str, monotonic: Callable[[], float]) -> None:
        self._cluster = cluster
        self._instance = instance
        self._monotonic = monotonic
        self._posted: dict[tuple[str, Event], float] = {}

    async def post(self, key: Key, uid: str, event: Event) -> None:
        """Post the Event. A failure is only logged, since Events are best effort."""
        now = self._monotonic()
        self._forget(before=now - QUIET_SECONDS)
        if (uid, event) in self._posted:
            return
        self._posted[uid, event] = now
        moment = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        unique = hashlib.sha256(f"{uid}{moment}{event}".encode()).hexdigest()[:12]
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{key.name}.{unique}", "namespace": key.namespace},
            "eventTime": moment,
            "reportingController": f"{names.GROUP}/{names.OPERATOR}",
            "reportingInstance": self._instance,
            "action": "Reconcile",
            "type": event.type,
            "reason": event.reason,
            "note": event.message.encode()[:_NOTE_LENGTH].decode(errors="ignore"),
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
            logger.warning("failed to post Event", extra={"key": str(key), "error": str(error)})

    def _forget(self, *, before: float) -> None:
        """Forget Events posted before this time; the dict is ordered by time."""
        while self._posted and next(iter(self._posted.values())) <= before:
            del self._posted[next(iter(self._posted))]
