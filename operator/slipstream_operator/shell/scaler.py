"""The scaling loop: one set of queries for all services, one decision for each, handed to the reconcile."""

import asyncio
import dataclasses
import logging
from collections import defaultdict
from typing import Final

from slipstream_operator import ports
from slipstream_operator.core import speculation
from slipstream_operator.core.observed import Key
from slipstream_operator.core.resolve import Resolved
from slipstream_operator.core.scaling import policy, queries, signals
from slipstream_operator.core.scaling.signals import Samples, Unknown
from slipstream_operator.core.status import Measured
from slipstream_operator.shell.ledger import Account, Ledger
from slipstream_operator.shell.queue import Queue
from slipstream_operator.shell.store import Store
from slipstream_operator.telemetry import Telemetry

SLOW_EVERY: Final = 60.0
"""Seconds between two rounds of the queries over long ranges."""

logger = logging.getLogger(__name__)


class Scaler:
    """Measures and decides; never touches the cluster."""

    def __init__(
        self,
        *,
        store: Store,
        ledger: Ledger,
        queue: Queue,
        metrics: ports.Metrics,
        clock: ports.Clock,
        telemetry: Telemetry,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._queue = queue
        self._metrics = metrics
        self._clock = clock
        self._telemetry = telemetry
        self._slow: dict[str, tuple[float, Samples]] = {}

    async def run(self, *, every: float) -> None:
        """Tick until cancelled; a tick that takes long delays the next one, and is never doubled."""
        while True:
            started = self._clock.monotonic()
            try:
                with self._telemetry.tick_seconds.time():
                    await self.tick()
            except Exception:
                logger.exception("scaling tick failed")
            await asyncio.sleep(max(0.0, every - (self._clock.monotonic() - started)))

    async def tick(self) -> None:
        """Measure and decide for every service."""
        groups: dict[tuple[str, float], list[tuple[Key, Account, Resolved]]] = defaultdict(list)
        for key, account in self._ledger.known():
            if account.resolved is not None and account.state is not None:
                source = account.resolved.prometheus or ("", 0.0)
                groups[source].append((key, account, account.resolved))
        for (url, window), members in groups.items():
            samples = await self._samples(url, window)
            for key, account, resolved in members:
                self._judge(key, account, resolved, samples, window=window)

    async def _samples(self, url: str, window: float) -> Samples:
        if not url:
            return {}
        fast = await self._metrics.query(url, queries.every_tick(window=window))
        at, slow = self._slow.get(url, (float("-inf"), {}))
        if self._clock.monotonic() - at >= SLOW_EVERY:
            slow = await self._metrics.query(url, queries.every_minute())
            self._slow[url] = (self._clock.monotonic(), slow)
        samples = {**fast, **slow}
        unknown = sum(isinstance(result, Unknown) for result in samples.values())
        if unknown:
            self._telemetry.unknown_queries.inc(unknown)
            logger.warning("queries failed", extra={"url": url, "failed": unknown})
        return samples

    def _judge(
        self, key: Key, account: Account, resolved: Resolved, samples: Samples, *, window: float
    ) -> None:
        assert account.state is not None
        if account.rollout is None:
            return
        active = account.rollout.active
        pods = [pod for pod in self._store.pods(key) if pod.revision == active and not pod.deleting]
        ready = {pod.name for pod in pods if pod.ready}
        stuck = sum(pod.trouble is not None and not pod.ready for pod in pods)
        measured = _measured(samples, key, resolved, active, ready=ready, window=window)
        before = account.decision
        ordered = 0 if resolved.bounds.recommend else account.state.desired
        account.decision, account.state = policy.decide(
            policy.Inputs(
                now=self._clock.now(),
                bounds=resolved.bounds,
                ready=len(ready),
                starting=max(len(pods), ordered) - len(ready) - stuck,
                rolling=account.rollout.active != account.rollout.wanted,
                load=measured.load,
                readings=measured.readings,
                throughput=resolved.objectives.throughput,
                down_window=resolved.scale_down_window,
            ),
            account.state,
        )
        now = self._clock.monotonic()
        off, account.below_since = speculation.judge(
            resolved, measured.guesses, below_since=account.below_since, now=now
        )
        since = speculation.loss_since(measured.gain, since=account.loss_since, now=now)
        account.loss_since = since
        measured = dataclasses.replace(
            measured, loss=speculation.loss(measured.gain, since=since, now=now)
        )
        account.off = off or account.off
        news = off is not None or _essence(account.measured, before) != _essence(
            measured, account.decision
        )
        account.measured = measured
        self._telemetry.desired_replicas.labels(key.namespace, key.name).set(
            account.decision.desired
        )
        if news:
            self._queue.add(key)
        else:
            self._queue.add_later(key, SLOW_EVERY)


def _measured(
    samples: Samples,
    key: Key,
    resolved: Resolved,
    active: str,
    *,
    ready: set[str],
    window: float,
) -> Measured:
    if resolved.prometheus is None:
        nowhere = Unknown("the ServingProfile names no prometheus.url")
        return Measured(load=nowhere, readings=nowhere)
    return Measured(
        load=signals.load(samples, key, pods=ready, max_age=window),
        readings=signals.readings(samples, key, resolved.objectives),
        guesses=signals.guesses(samples, key, revision=active),
        gain=signals.gain(samples, key, revision=active),
        kv_capacity=signals.kv_capacity(samples, key),
        adapters=signals.adapters(samples, key),
    )


def _essence(measured: Measured | None, decision: policy.Decision | None) -> tuple[object, ...]:
    """What must reach the status soon if it changes."""
    readings = measured.readings if measured else None
    verdicts: object = None
    if isinstance(readings, tuple):
        verdicts = (
            [
                reading.requests >= policy.MIN_REQUESTS and (reading.pressure or 0) > 1
                for reading in readings
            ],
            [reading.current is None for reading in readings],
        )
    return (
        verdicts,
        measured is not None and (measured.kv_capacity, measured.adapters, measured.loss is None),
        decision and (decision.desired, decision.known, decision.infeasible is None),
    )
