"""Reconciler of one ModelBuild: snapshot, decide, apply, report. All decisions are made in `core.builds`."""

import asyncio
from typing import Any

from slipstream_operator import errors, names, ports
from slipstream_operator.api import units
from slipstream_operator.core import fetching, plan
from slipstream_operator.core import status as statuses
from slipstream_operator.core.builds import jobs, resolve, state, status
from slipstream_operator.core.builds.reports import Progress
from slipstream_operator.core.builds.resolve import ResolvedBuild
from slipstream_operator.core.builds.status import Outcome
from slipstream_operator.core.observed import Key, ObservedBuild, Ref
from slipstream_operator.core.render import build as rendering
from slipstream_operator.errors import PermanentError
from slipstream_operator.shell import execution
from slipstream_operator.shell.store import Store
from slipstream_operator.telemetry import Telemetry

CONFLICT_RETRY = 5.0
"""Seconds until a name that another owner's object holds is retried: such objects are not watched."""


class BuildReconciler:
    """Brings the cluster to the state that each ModelBuild declares."""

    def __init__(
        self,
        *,
        store: Store,
        cluster: ports.Cluster,
        events: ports.Events,
        progress: ports.Progress,
        clock: ports.Clock,
        telemetry: Telemetry,
    ) -> None:
        self._store = store
        self._cluster = cluster
        self._events = events
        self._progress = progress
        self._clock = clock
        self._telemetry = telemetry
        self._known: dict[Key, Progress] = {}

    async def reconcile(self, key: Key) -> float | None:
        """Reconcile the build; return the seconds until the next reconcile, or None to wait for an event.

        A fault in it is reported in the object's status, and raised.
        """
        observed = self._store.build(key)
        if observed is None or observed.parent.deleting:
            self._known.pop(key, None)
            return None
        try:
            return await self._reconcile(observed)
        except errors.TransientError:
            raise
        except Exception as fault:
            now = units.timestamp(self._clock.now())
            await self._write(observed, statuses.with_fault(observed.parent, fault, now=now))
            raise

    async def _reconcile(self, observed: ObservedBuild) -> float | None:
        if status.finished(observed.parent.status):
            self._known.pop(observed.parent.key, None)
            now = units.timestamp(self._clock.now())
            await self._publish(observed, status.checked(observed, now=now))
            return None
        job = observed.child(names.JOB)
        build = None
        try:
            build = resolve.resolve(observed)
        except PermanentError as refusal:
            if job is None:
                await self._report(observed, Outcome(refusal=refusal))
                return None
        conflicts, failures = await self._apply(observed, build)
        if job is None or conflicts or failures:
            outcome = Outcome(
                conflicts=conflicts,
                failures=failures,
                ephemeral=build is not None and build.ephemeral,
            )
            await self._report(observed, outcome)
            return CONFLICT_RETRY if conflicts or failures else None
        work = jobs.work(observed, job)
        found = state.state(observed, work.stages, await self._read(observed))
        await self._report(
            observed,
            Outcome(
                state=found,
                stages=work.stages,
                recipe=work.recipe,
                digest=work.digest,
                ephemeral=work.ephemeral,
            ),
        )
        if found.lost_report:
            await self._cluster.delete(job.ref, uid=job.uid)
        return fetching.PROGRESS_EVERY if state.running(observed) is not None else None

    async def _apply(
        self, observed: ObservedBuild, build: ResolvedBuild | None
    ) -> tuple[list[Ref], list[str]]:
        """Create what is missing. A Job and its recipe stay as they were created."""
        if build is None:
            return [], []
        kept = jobs.kept(observed)
        desired = [one for one in rendering.render(build) if one["kind"] not in kept]
        is_ours = plan.controlled_by(observed.parent.uid)
        steps = plan.plan(
            desired,
            children=[child for child in observed.children if child.ref.kind not in kept],
            is_ours=is_ours,
        )
        name = names.build_name(build.key.name)
        return await execution.execute(
            steps,
            cluster=self._cluster,
            telemetry=self._telemetry,
            is_ours=is_ours,
            dependent=Ref(names.JOB, build.key.namespace, name),
        )

    async def _read(self, observed: ObservedBuild) -> Progress | None:
        """Return the progress of the running stage: of now, or the last that was read."""
        key, pod = observed.parent.key, state.running(observed)
        if pod is None or pod.address is None:
            self._known.pop(key, None)
            return None
        if (progress := await self._progress.stage(pod.address)) is not None:
            self._known[key] = progress
        return self._known.get(key)

    async def _report(self, observed: ObservedBuild, outcome: Outcome) -> None:
        now = units.timestamp(self._clock.now())
        await self._publish(observed, status.summarise(observed, outcome, now=now))

    async def _publish(self, observed: ObservedBuild, new: dict[str, Any]) -> None:
        """Write the status, and post Events about its changes."""
        if not await self._write(observed, new):
            return
        parent = observed.parent
        posts = status.news(parent.status, new)
        await asyncio.gather(*(self._events.post(parent.key, parent.uid, event) for event in posts))

    async def _write(self, observed: ObservedBuild, new: dict[str, Any]) -> bool:
        if new == observed.parent.status:
            return False
        await self._cluster.write_status(observed.parent.key, observed.parent.uid, new)
        self._telemetry.status_writes.inc()
        return True
