"""The scaling loop: one set of queries for all services, one decision for each, handed to the reconcile."""

import asyncio
import dataclasses
import logging
from collections import defaultdict
from typing import Final

from slipstream_operator import ports
from slipstream_operator.api import units
from slipstream_operator.core import objectives, resolve, speculation
from slipstream_operator.core.observed import Key, Pod
from slipstream_operator.core.resolved import Resolved
from slipstream_operator.core.scaling import inputs, policy, steady_state, wording
from slipstream_operator.core.scaling.metrics import signals, values
from slipstream_operator.core.scaling.metrics.query_results import QueryResults, ServiceResults
from slipstream_operator.core.scaling.metrics.values import Unknown
from slipstream_operator.core.scaling.state import Decision, Inputs
from slipstream_operator.core.scaling.supply import PodStatus
from slipstream_operator.core.status.outcome import Measured
from slipstream_operator.names import Reason
from slipstream_operator.shell.query_schedule import QuerySchedule
from slipstream_operator.shell.queue import Queue
from slipstream_operator.shell.service_states import ServiceState, ServiceStates
from slipstream_operator.shell.store import Store
from slipstream_operator.telemetry import Telemetry

LOOK_SECONDS: Final = 60.0
"""Within which a service is looked at again when there are no news."""

_NOWHERE: Final = Unknown("the ServingProfile names no prometheus.url")

logger = logging.getLogger(__name__)


class Scaler:
    """Measures and decides; never touches the cluster."""

    def __init__(
        self,
        *,
        store: Store,
        states: ServiceStates,
        queue: Queue,
        metrics: ports.Metrics,
        clock: ports.Clock,
        telemetry: Telemetry,
    ) -> None:
        self._store = store
        self._states = states
        self._queue = queue
        self._metrics = metrics
        self._clock = clock
        self._telemetry = telemetry
        self._schedules: dict[tuple[str, float], QuerySchedule] = {}

    async def run(self, *, every: float) -> None:
        """Tick until cancelled; a tick that takes long delays the next one, and is never doubled."""
        while True:
            started = self._clock.monotonic()
            try:
                with self._telemetry.tick_duration.time():
                    await self.tick()
            except Exception:
                logger.exception("scaling tick failed")
            await asyncio.sleep(max(0.0, every - (self._clock.monotonic() - started)))

    async def tick(self) -> None:
        """Measure and decide for every service."""
        groups: dict[tuple[str, float], list[tuple[Key, ServiceState, Resolved]]] = defaultdict(
            list
        )
        for key, service in self._states.known():
            if service.resolved is not None and service.scaling_state is not None:
                source = service.resolved.prometheus or ("", 0.0)
                groups[source].append((key, service, service.resolved))
        self._schedules = {at: schedule for at, schedule in self._schedules.items() if at in groups}
        for (url, window), members in groups.items():
            results = None
            if url:
                results = await self._query(url, window, [resolved for *_, resolved in members])
            now = self._clock.now()  # one for all: what they remember shares it
            for key, service, resolved in members:
                try:
                    self._judge(
                        key,
                        service,
                        resolved,
                        results,
                        now=now,
                        window=window or resolve.RATE_WINDOW,
                    )
                except Exception:
                    # NB: what one service's pods report must not end the tick of all others.
                    logger.exception("no decision", extra={"key": str(key)})
                    self._telemetry.decision_failures.inc()
                    self._hold(key, service)

    async def _query(self, url: str, window: float, members: list[Resolved]) -> QueryResults:
        """Answers to what is due, of latencies only what somebody has objectives for."""
        targets: defaultdict[str, set[float]] = defaultdict(set)
        for resolved in members:
            for objective in resolved.objectives.latency:
                targets[objective.metric].add(objective.target)
        schedule = self._schedules.setdefault((url, window), QuerySchedule(url=url, window=window))
        results = await schedule.run_due(
            self._metrics,
            wanted={one: targets[one] for one in objectives.METRICS if one in targets},
            now=self._clock.monotonic(),
        )
        if results.failed:
            self._telemetry.query_failures.inc(len(results.failed))
            logger.warning("queries failed", extra={"url": url, "failed": len(results.failed)})
        return results

    def _hold(self, key: Key, service: ServiceState) -> None:
        """Keep the count, and say in status that nothing could be decided."""
        service.rest = None
        if service.scaling_state is None:
            return
        count = service.scaling_state.desired
        reason = (
            f"Holding {wording.replicas(count)}: the metrics have values that no decision can use."
        )
        if service.decision is None or service.decision.reason != reason:
            service.decision = Decision(count, reason, known=False)
            self._queue.add(key)

    def _judge(
        self,
        key: Key,
        service: ServiceState,
        resolved: Resolved,
        asked: QueryResults | None,
        *,
        now: float,
        window: float,
    ) -> None:
        assert service.scaling_state is not None
        if service.rollout is None:
            return
        results = _NOWHERE if asked is None else asked.of(key)
        moment = self._clock.monotonic()
        pods = tuple(self._store.pods(key))
        known = service.measured.readings if service.measured else ()
        earlier = known if isinstance(known, tuple) else ()
        basis = resolved, service.rollout, service.scaling_state
        if not isinstance(results, Unknown) and steady_state.holds(
            service.rest, results, pods=pods, basis=basis, now=moment
        ):
            readings: tuple[values.Reading, ...] | Unknown = earlier
            if results.histograms and service.measured is not None:
                readings = signals.readings(results, resolved.objectives, earlier=earlier)
                service.measured = dataclasses.replace(service.measured, readings=readings)
            if steady_state.objectives_met(readings):
                return
        active = service.rollout.active
        rolling = active != service.rollout.wanted
        if not rolling or service.active_engines is None:
            service.active_engines = resolved.engines
        gathered = inputs.build(
            results,
            now=now,
            window=window,
            pods=tuple(_supplied(pod) for pod in pods if pod.revision == active),
            bounds=resolved.bounds,
            objectives=resolved.objectives,
            down_window=resolved.scale_down_window,
            rolling=rolling,
            revision=active,
            max_sequences=resolved.max_sequences,
            engines=service.active_engines,
            provision=resolved.provision_time,
            earlier=earlier,
        )
        measured = _measured(results, gathered, active)
        before = service.decision
        service.decision, service.scaling_state = policy.decide(gathered, service.scaling_state)
        off, service.low_acceptance_since = speculation.judge(
            resolved, measured.draft_tokens, below_since=service.low_acceptance_since, now=moment
        )
        since = speculation.loss_since(
            measured.gain, since=service.speculation_loss_since, now=moment
        )
        service.speculation_loss_since = since
        if loss := speculation.loss(measured.gain, since=since, now=moment):
            measured = dataclasses.replace(measured, loss=loss)
        service.disabled_speculation = off or service.disabled_speculation
        service.measured = measured
        service.rest = steady_state.start(
            results,
            measured.readings,
            pods=pods,
            decision=service.decision,
            basis=(resolved, service.rollout, service.scaling_state),
            until=steady_state.deadline(key, now=moment),
        )
        decided = before is None or before.desired != service.decision.desired
        # NB: when queries fail this is so for all services, and again when they don't any more.
        silent = asked is not None and bool(asked.failed)
        essence = _essence(measured, service.decision)
        if off is not None or decided or (essence != service.queued_summary and not silent):
            service.queued_summary = essence
            self._queue.add(key)
        else:
            self._queue.add_later(key, LOOK_SECONDS)


def _supplied(pod: Pod) -> PodStatus:
    """Return the policy's view of a pod."""
    reason = pod.trouble[0] if pod.trouble else None
    return PodStatus(
        name=pod.name,
        created=units.moment(pod.created),
        ready_at=units.moment(pod.ready_since) if pod.ready and pod.ready_since else None,
        terminating=pod.deleting,
        scheduled=reason != Reason.UNSCHEDULABLE,
        failed_starts=int(reason is not None and reason != Reason.UNSCHEDULABLE),
    )


def _measured(results: ServiceResults | Unknown, inputs: Inputs, active: str) -> Measured:
    if isinstance(results, Unknown):
        return Measured(load=results, readings=results)
    return Measured(
        load=inputs.load,
        readings=inputs.readings,
        draft_tokens=signals.draft_tokens(results, revision=active),
        gain=signals.gain(results, revision=active),
        kv_capacity=signals.kv_capacity(results),
        adapters=signals.adapters(results),
    )


def _essence(measured: Measured, decision: Decision) -> tuple[object, ...]:
    """Return the values that must reach the status soon if they change."""
    verdicts: object = None
    if isinstance(measured.readings, tuple):
        verdicts = tuple(
            [
                (reading.telling and reading.over, reading.current is None)
                for reading in measured.readings
            ]
        )
    return (
        verdicts,
        measured.kv_capacity,
        measured.adapters,
        measured.loss is None,
        decision.desired,
        decision.known,
        decision.infeasible is None,
    )
