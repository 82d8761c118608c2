"""Leader election on a Lease: acquire it, renew it, and release it on a clean stop.

The LeaseLock of kubernetes.aio 37 can't create a Lease and does not release it, hence this loop. As in client-go,
times are compared on the clock of this process only, since clocks of two machines may differ.
"""

import asyncio
import contextlib
import dataclasses
import datetime
from collections.abc import Awaitable, Callable
from typing import Any, Final

from slipstream_operator import errors
from slipstream_operator.adapters.cluster import Cluster
from slipstream_operator.core.observed import Ref

DURATION: Final = 13.0
"""Seconds without renewal after which another replica may take over."""
RENEW_EVERY: Final = 2.0
"""Seconds between two renewals."""
GIVE_UP_AFTER: Final = 10.0
"""Seconds without a successful renewal after which the leader stops, before another replica may start."""

_MOST_TRANSITIONS: Final = 2**31 - 1
"""Greatest number of transitions that the API server accepts; the next one counts from one again."""


@dataclasses.dataclass
class _LastRecord:
    """Holder's record as last read, and the time of its last change on the clock of this process."""

    record: tuple[Any, ...]
    at: float


class Lease:
    """Lease, as one replica uses it."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        namespace: str,
        name: str,
        identity: str,
        monotonic: Callable[[], float],
    ) -> None:
        self._cluster = cluster
        self._ref = Ref("Lease", namespace, name)
        self._identity = identity
        self._monotonic = monotonic
        self._last_record: _LastRecord | None = None

    async def lead(self, work: Callable[[], Awaitable[None]]) -> None:
        """Wait for the Lease, then run `work` while this replica holds it.

        Return when `work` does; raise TransientError if the Lease was lost. Cancellation releases the Lease.
        """
        while not await self._try_acquire():  # noqa: ASYNC110 (the event is in the API server)
            await asyncio.sleep(RENEW_EVERY)
        renewing = asyncio.ensure_future(self._keep_renewing())
        working = asyncio.ensure_future(work())
        try:
            await asyncio.wait({renewing, working}, return_when=asyncio.FIRST_COMPLETED)
            for task in (working, renewing):
                if task.done():
                    await task
        finally:
            for task in (working, renewing):
                task.cancel()
            await asyncio.gather(working, renewing, return_exceptions=True)
            with contextlib.suppress(errors.TransientError):
                await self._release()

    async def _keep_renewing(self) -> None:
        """Renew the Lease until no renewal succeeds for GIVE_UP_AFTER, also if a call hangs."""
        try:
            while True:
                async with asyncio.timeout(GIVE_UP_AFTER):
                    await asyncio.sleep(RENEW_EVERY)
                    while not await self._try_acquire():  # noqa: ASYNC110 (the event is in the API server)
                        await asyncio.sleep(RENEW_EVERY)
        except TimeoutError as error:
            raise errors.Unavailable("The leader's Lease could not be renewed in time.") from error

    async def _try_acquire(self) -> bool:
        """Acquire or renew the Lease; False if that is impossible now."""
        with contextlib.suppress(errors.TransientError, TimeoutError):
            async with asyncio.timeout(GIVE_UP_AFTER / 2):
                return await self._acquire()
        return False

    async def _acquire(self) -> bool:
        try:
            lease = await self._cluster.request(
                "get", "Lease", name=self._ref.name, namespace=self._ref.namespace
            )
        except errors.NotFound:
            await self._write("create", {"metadata": {"name": self._ref.name}, "spec": {}})
            return True
        spec = lease.get("spec", {})
        holder = spec.get("holderIdentity")
        record = (holder, spec.get("renewTime"), lease["metadata"]["resourceVersion"])
        if self._last_record is None or self._last_record.record != record:
            self._last_record = _LastRecord(record, self._monotonic())
        if (
            holder
            and holder != self._identity
            and self._monotonic() - self._last_record.at < DURATION
        ):
            return False
        await self._write("replace", lease)
        return True

    async def _write(self, verb: str, lease: dict[str, Any], *, release: bool = False) -> None:
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = dict(lease.get("spec", {}))
        if spec.get("holderIdentity") != self._identity:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = (spec.get("leaseTransitions") or 0) % _MOST_TRANSITIONS + 1
        spec |= {
            "holderIdentity": "" if release else self._identity,
            "leaseDurationSeconds": int(DURATION),
            "renewTime": now,
        }
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", **lease, "spec": spec}
        await self._cluster.request(verb, "Lease", body=body, namespace=self._ref.namespace)

    async def _release(self) -> None:
        """Release the Lease, so that a successor starts at once."""
        lease = await self._cluster.request(
            "get", "Lease", name=self._ref.name, namespace=self._ref.namespace
        )
        if lease.get("spec", {}).get("holderIdentity") == self._identity:
            await self._write("replace", lease, release=True)
