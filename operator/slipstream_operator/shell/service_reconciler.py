"""Reconciler of one InferenceService: snapshot, decide, apply, report. All decisions are made in `core`."""

import asyncio
import dataclasses
import logging
from collections.abc import Mapping
from typing import Final

from slipstream_operator import errors, names, ports
from slipstream_operator.api import units
from slipstream_operator.core import (
    activation,
    events,
    fetching,
    gateway,
    groups,
    losses,
    plan,
    prefetching,
    render,
    resolve,
    revisions,
    router_config,
    speculation,
    status,
    tick,
)
from slipstream_operator.core.events import Event
from slipstream_operator.core.observed import Key, Observed, router_key
from slipstream_operator.core.render import config
from slipstream_operator.core.resolved import Resolved
from slipstream_operator.core.rollout import course
from slipstream_operator.core.rollout.course import Course
from slipstream_operator.core.rollout.state import Progress
from slipstream_operator.core.router_config import Entry
from slipstream_operator.core.scaling import persistence
from slipstream_operator.core.scaling.state import State
from slipstream_operator.core.status.outcome import Outcome
from slipstream_operator.names import Reason
from slipstream_operator.shell import execution
from slipstream_operator.shell.queue import Queue
from slipstream_operator.shell.service_states import ServiceState, ServiceStates
from slipstream_operator.shell.store import Store
from slipstream_operator.telemetry import Telemetry

CONFLICT_RETRY: Final = 5.0
"""Seconds until a name that another owner's object holds is retried: such objects are not watched."""
LEAVE_SECONDS: Final = 30.0
"""Seconds for which the router still serves open connections and cached addresses after the Service selects the
engines."""
COMPARE_SECONDS: Final = 5.0
"""Seconds between two looks at revisions that are compared: as long as between two ticks, which measure them."""
STATE_EVERY: Final = 60.0
"""Seconds between two writes of the scaling state without a new decision."""
_LONGEST_SAVED: Final = 32_768
"""Characters of one entry of the saved state, ten times more than the operator writes."""

logger = logging.getLogger(__name__)


class ServiceReconciler:
    """Brings the cluster to the state that each InferenceService declares."""

    def __init__(
        self,
        *,
        store: Store,
        states: ServiceStates,
        queue: Queue,
        cluster: ports.Cluster,
        events: ports.Events,
        progress: ports.Progress,
        clock: ports.Clock,
        telemetry: Telemetry,
    ) -> None:
        self._store = store
        self._states = states
        self._queue = queue
        self._cluster = cluster
        self._events = events
        self._progress = progress
        self._clock = clock
        self._telemetry = telemetry

    async def reconcile(self, key: Key) -> float | None:
        """Reconcile the service; return the seconds until the next reconcile, or None to wait for an event.

        A fault in it is reported in the object's status, and raised.
        """
        try:
            return await self._reconcile(key)
        except errors.TransientError:
            raise
        except Exception as fault:
            await self._report_fault(key, fault)
            raise

    async def _report_fault(self, key: Key, fault: Exception) -> None:
        """Add the fault to the conditions; post an Event if it is a new one."""
        parent = self._store.parent(key)
        if parent is None or parent.deleting:
            return
        new = status.with_fault(parent, fault, now=units.timestamp(self._clock.now()))
        if new == parent.status:
            return
        await self._cluster.write_status(key, parent.uid, new)
        self._telemetry.status_writes.inc()
        for event in events.of_fault(parent.status, new):
            await self._events.post(key, parent.uid, event)

    async def _reconcile(self, key: Key) -> float | None:
        observed = self._store.snapshot(key)
        if observed is None or observed.parent.deleting:
            self._states.forget(key)
            self._queue.add(router_key(key.namespace))
            return None
        service = self._states.of(key)
        observed = dataclasses.replace(observed, history=service.pod_history)
        service.pod_history = losses.history(observed)
        try:
            self._restore(observed, service)
            service.fetched = fetching.noted(observed, service.fetched)
            known = service.fetched.facts if service.fetched else None
            observed = dataclasses.replace(observed, facts=known)
            service.resolved = speculation.applied(
                resolve.resolve(observed), service.scaling.disabled_speculation
            )
        except errors.PermanentError as rejection:
            service.resolved = service.rollout = None
            if not service.is_entry_known:
                self._register_with_router(observed, service, router_config.known(observed.router))
            await self._report(observed, service, Outcome(rejected=rejection), [])
            return None
        if revisions.wanted_revision(observed, service.resolved) is None:
            await self._wait_for_build(observed, service, service.resolved)
            return None
        outcome, posts = await self._apply(observed, service, service.resolved)
        await self._report(observed, service, outcome, posts)
        if outcome.conflicts or outcome.failures:
            return CONFLICT_RETRY
        return fetching.PROGRESS_EVERY if outcome.fetching else None

    async def _wait_for_build(
        self, observed: Observed, service: ServiceState, resolved: Resolved
    ) -> None:
        """Report the builds that the service waits for. Nothing serves yet, so there is nothing to apply."""
        service.resolved = service.rollout = None
        if not service.is_entry_known:
            self._register_with_router(observed, service, router_config.known(observed.router))
        await self._report(observed, service, Outcome(resolved=resolved), [])

    async def _apply(
        self, observed: Observed, service: ServiceState, resolved: Resolved
    ) -> tuple[Outcome, list[Event]]:
        now, monotonic = self._clock.now(), self._clock.monotonic()
        service.renewal = activation.noted(observed, service.renewal, now=now, monotonic=monotonic)
        service.record(
            tick.between_ticks(
                service.scaling,
                observed,
                resolved,
                renewal=service.renewal,
                moment=tick.Moment(now, monotonic),
            )
        )
        replicas = _replicas(observed, service, resolved)
        router = self._states.router_problem(resolved.key.namespace)
        unsafe = resolved.routing.mode == "Router" and router is not None and router.foreign_token
        held = unsafe or fetching.holds(observed, resolved.task, service.fetched)
        followed = self._follow_rollout(observed, service, resolved, replicas=replicas, now=now)
        rollout = service.rollout = revisions.roll_out(
            observed, resolved, replicas=replicas, held=held, now=now, canary=followed.canary
        )
        if resolved.recreate and (released_at := revisions.released_at(observed)) is not None:
            self._queue.add_later(resolved.key, max(0.0, released_at - now))
        desired = render.render(
            observed,
            resolved,
            rollout,
            state=self._state_to_save(service, resolved),
            fetched=service.fetched,
        )
        is_ours = plan.controlled_by(observed.parent.uid)
        steps = plan.plan(
            desired,
            children=observed.children,
            is_ours=is_ours,
            kept_revisions={revision.hash for revision in rollout.revisions},
        )
        conflicts, failures = await execution.execute(
            steps, cluster=self._cluster, telemetry=self._telemetry, is_ours=is_ours
        )
        self._register_with_router(
            observed, service, self._router_entry(service, resolved, observed)
        )
        lost = self._record_loss(observed, service)
        standing = await self._fetch_state(observed, resolved.task) if held else None
        outcome = Outcome(
            resolved=resolved,
            rollout=rollout,
            progress=service.progress,
            conflicts=tuple(conflicts),
            failures=tuple(failures),
            decision=service.scaling.decision,
            state=service.scaling.state,
            measured=service.scaling.measured,
            gateway=gateway.attachment(observed, resolved)
            if resolved.routing.mode == "Gateway"
            else None,
            router=router if resolved.routing.mode == "Router" else None,
            loss=service.group_loss.message if service.group_loss else None,
            fetching=standing,
            prefetch=prefetching.progress(observed, resolved.prefetch)
            if resolved.prefetch is not None
            else None,
        )
        return outcome, [
            *lost,
            *self._losses(observed, service, now=now),
            *events.of_plan(steps),
            *events.of_rollout(observed.router.active, resolved.key.name, rollout),
            *followed.events,
        ]

    def _follow_rollout(
        self,
        observed: Observed,
        service: ServiceState,
        resolved: Resolved,
        *,
        replicas: int,
        now: float,
    ) -> Course:
        """Bring the rollout in steps to its next state; look at it again soon while revisions are compared."""
        found = course.follow(
            service.progress,
            observed,
            resolved,
            replicas=replicas,
            compared=service.compared,
            now=now,
        )
        service.progress = found.progress
        service.comparison = found.canary.comparison if found.canary is not None else None
        if found.canary is not None and found.canary.since is not None:
            self._queue.add_later(resolved.key, COMPARE_SECONDS)
        return found

    async def _fetch_state(
        self, observed: Observed, task: fetching.Task | None
    ) -> fetching.TaskState | None:
        """Return the state of the download or inspection that engines wait for."""
        if task is None:
            return None
        pod, progress = fetching.running(observed, task), None
        if pod is not None and pod.phase == "Running" and pod.address and not task.inspects:
            progress = await self._progress.read(pod.address)
        return fetching.state(observed, task, progress)

    def _record_loss(self, observed: Observed, service: ServiceState) -> list[Event]:
        """Record the loss of a group; return an Event when the loss is new."""
        before = service.group_loss
        service.group_loss = groups.loss(observed, before, now=units.timestamp(self._clock.now()))
        if service.group_loss is None or service.group_loss == before:
            return []
        return [Event("Warning", Reason.GROUP_RESTARTED, service.group_loss.message)]

    def _losses(self, observed: Observed, service: ServiceState, *, now: float) -> list[Event]:
        """Return an Event if pods were evicted, preempted or lost with their node; record that it is posted."""
        event = losses.event(observed, posted_at=service.loss_posted_at, now=now)
        if event is None:
            return []
        service.loss_posted_at = now
        return [event]

    def _register_with_router(
        self, observed: Observed, service: ServiceState, entry: Entry | None
    ) -> None:
        """Record the service's entry, and queue its namespace's router if the entry changed."""
        if service.is_entry_known and service.router_entry == entry:
            return
        service.is_entry_known, service.router_entry = True, entry
        self._queue.add(router_key(observed.parent.key.namespace))

    def _router_entry(
        self, service: ServiceState, resolved: Resolved, observed: Observed
    ) -> Entry | None:
        """Return the service's entry in the router. It stays for LEAVE_SECONDS after requests bypass the router."""
        assert service.rollout is not None
        capacity = service.scaling.measured.kv_capacity if service.scaling.measured else None
        cold = service.scaling.state.cold if service.scaling.state else None
        entry = router_config.entry(
            resolved,
            service.rollout,
            kv_capacity=capacity,
            usual_start=cold.p90 if cold is not None and cold.known else None,
            foreign=observed.foreign,
            tokens=[
                revision.hash
                for revision in service.rollout.revisions
                if revisions.has_own_token(observed, revision.hash)
            ],
        )
        leaves = resolved.routing.mode != "Router" and not service.rollout.by_router
        if entry is None or not leaves:
            service.router_left_at = None
            return entry
        now = self._clock.monotonic()
        if service.router_left_at is None:
            service.router_left_at = now
        left = service.router_left_at + LEAVE_SECONDS - now
        if left <= 0:
            return None
        self._queue.add_later(resolved.key, left)
        return entry

    def _restore(self, observed: Observed, service: ServiceState) -> None:
        """Read the state that an earlier leader saved, once."""
        if service.restored:
            return
        service.restored = True
        saved = _saved(observed)
        service.record(
            tick.restore(
                service.scaling,
                state=saved.get(config.SCALING_KEY),
                disabled_speculation=saved.get(config.SPECULATION_KEY),
                now=self._clock.now(),
            )
        )
        if rollout := saved.get(config.ROLLOUT_KEY):
            service.progress = Progress.parse(rollout, now=self._clock.now())
        if fetched := saved.get(config.FETCHED_KEY):
            service.fetched = fetching.load(fetched)

    def _state_to_save(self, service: ServiceState, resolved: Resolved) -> dict[str, str]:
        """Return the state that must outlive this process, by key of the ConfigMap."""
        texts = {}
        if resolved.bounds.follows_load:
            assert service.scaling.state is not None
            texts[config.SCALING_KEY] = self._scaling_text(service, service.scaling.state)
        if service.scaling.disabled_speculation is not None:
            texts[config.SPECULATION_KEY] = service.scaling.disabled_speculation.text
        if (progress := service.progress.text) is not None:
            texts[config.ROLLOUT_KEY] = progress
        fetched, task = service.fetched, resolved.task
        serves = resolved.waits_for_build or (task and fetching.is_done(task, fetched))
        if fetched is not None and serves:
            texts[config.FETCHED_KEY] = fetched.text
        return texts

    def _scaling_text(self, service: ServiceState, state: State) -> str:
        """Return the scaling state to save. Without a new decision it is the last saved one for a minute."""
        decision = state.desired, state.reason
        now = self._clock.monotonic()
        if service.saved_decision != decision or now - service.saved_at >= STATE_EVERY:
            service.saved_scaling, service.saved_at = persistence.dump(state), now
            service.saved_decision = decision
        return service.saved_scaling

    async def _report(
        self,
        observed: Observed,
        service: ServiceState,
        outcome: Outcome,
        posts: list[Event],
    ) -> None:
        parent = observed.parent
        new = status.summarise(observed, outcome, now=units.timestamp(self._clock.now()))
        since = self._clock.monotonic() - service.status_written_at
        if status.worth_writing(parent.status, new, since_last_write=since):
            changes = events.of_status(parent.status, new)
            posts = [*events.unrepeated(posts, changes), *changes]
            await self._cluster.write_status(parent.key, parent.uid, new)
            service.status_written_at = self._clock.monotonic()
            self._telemetry.status_writes.inc()
        if posts:
            await asyncio.gather(
                *(self._events.post(parent.key, parent.uid, event) for event in posts)
            )


def _saved(observed: Observed) -> Mapping[str, str]:
    child = observed.child("ConfigMap", names.state_name(observed.parent.key.name))
    if child is None or child.controller != observed.parent.uid:
        return {}
    data: Mapping[str, str] = child.manifest.get("data") or {}
    return {key: text for key, text in data.items() if len(text) <= _LONGEST_SAVED}


def _replicas(observed: Observed, service: ServiceState, resolved: Resolved) -> int:
    """Return the replicas to run: those of the decision, unless it only recommends."""
    assert service.scaling.decision is not None
    if not resolved.bounds.recommend:
        return service.scaling.decision.desired
    return min(
        max(tick.running(observed, resolved), resolved.bounds.minimum), resolved.bounds.maximum
    )
