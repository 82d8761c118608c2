"""Reconciler of one ModelBuild: snapshot, decide, apply, report. All decisions are made in `core.builds`."""

from slipstream_operator import errors, ports
from slipstream_operator.api import units
from slipstream_operator.core import status as statuses
from slipstream_operator.core.builds import resolve, status
from slipstream_operator.core.observed import Key, ObservedBuild
from slipstream_operator.errors import PermanentError
from slipstream_operator.shell.store import Store
from slipstream_operator.telemetry import Telemetry


class BuildReconciler:
    """Brings the cluster to the state that each ModelBuild declares."""

    def __init__(
        self, *, store: Store, cluster: ports.Cluster, clock: ports.Clock, telemetry: Telemetry
    ) -> None:
        self._store = store
        self._cluster = cluster
        self._clock = clock
        self._telemetry = telemetry

    async def reconcile(self, key: Key) -> float | None:
        """Reconcile the build; return the seconds until the next reconcile, or None to wait for an event.

        A fault in it is reported in the object's status, and raised.
        """
        observed = self._store.build(key)
        if observed is None or observed.parent.deleting:
            return None
        try:
            return await self._reconcile(observed)
        except errors.TransientError:
            raise
        except Exception as fault:
            now = units.timestamp(self._clock.now())
            new = statuses.with_fault(observed.parent, fault, now=now)
            await self._write(observed, new)
            raise

    async def _reconcile(self, observed: ObservedBuild) -> float | None:
        refusal = None
        try:
            resolve.resolve(observed)
        except PermanentError as error:
            refusal = error
        now = units.timestamp(self._clock.now())
        await self._write(observed, status.summarise(observed, refusal, now=now))
        return None

    async def _write(self, observed: ObservedBuild, new: dict[str, object]) -> None:
        if new == observed.parent.status:
            return
        await self._cluster.write_status(observed.parent.key, observed.parent.uid, new)
        self._telemetry.status_writes.inc()
