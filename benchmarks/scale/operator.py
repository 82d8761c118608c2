"""The operator without an API server: its store, states, reconciler and scaling loop, with a cluster that counts.

A process of its own, so that its memory is the operator's; prints one line of JSON.
"""

import asyncio
import gc
import itertools
import json
import os
import sys
import time
import types
from collections.abc import Coroutine, Generator, Mapping
from pathlib import Path
from typing import Any

import click
import prometheus_client
import psutil

from benchmarks.scale import exporter
from slipstream_operator import app, errors, names, ports
from slipstream_operator.adapters import metrics
from slipstream_operator.core import fetching
from slipstream_operator.core.events import Event
from slipstream_operator.core.observed import Key, Manifest, Ref
from slipstream_operator.core.prometheus import Server
from slipstream_operator.core.scaling.metrics.values import Unknown
from slipstream_operator.shell.queue import Queue
from slipstream_operator.shell.scaler import Scaler
from slipstream_operator.shell.service_reconciler import ServiceReconciler
from slipstream_operator.shell.service_states import ServiceStates
from slipstream_operator.shell.store import Store
from slipstream_operator.telemetry import Telemetry
from tests.support import fakes

TICK_SECONDS = 5.0
SPEC = {
    "model": {"uri": "hf://org/model"},
    "slo": {"ttft": {"p95": "500ms"}, "tpot": {"p95": "100ms"}},
    "scaling": {"minReplicas": exporter.REPLICAS, "maxReplicas": 4 * exporter.REPLICAS},
}


def _received(body: Mapping[str, Any]) -> dict[str, Any]:
    """As it comes from the API: it shares nothing with others."""
    received: dict[str, Any] = json.loads(json.dumps(body))
    return received


class Cluster:
    """`ports.Cluster` that accepts everything, says so as a watch would, and counts what statuses are written."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._uids = itertools.count()
        self.status_writes = 0

    def serve(self, key: Key, *, status: Mapping[str, Any] | None = None) -> None:
        """A user has applied an InferenceService."""
        body = fakes.service_body(SPEC, key=key, uid=f"uid-of-{key.name}", status=status)
        self._store.feed(names.INFERENCE_SERVICE, _received(body), gone=False)

    async def create(self, ref: Ref, manifest: Manifest) -> None:
        self._keep(ref, manifest, f"uid-{next(self._uids)}")

    async def apply(self, ref: Ref, manifest: Manifest, *, uid: str) -> None:
        self._keep(ref, manifest, uid)

    async def delete(self, ref: Ref, *, uid: str) -> None:
        raise AssertionError(f"{ref} is deleted, though nothing changed")

    async def metadata_of(self, ref: Ref) -> Manifest:
        raise errors.NotFound(str(ref))

    async def list_objects(
        self, kind: str, *, label_selector: str | None = None
    ) -> list[dict[str, Any]]:
        return []

    async def write_status(self, key: Key, uid: str, status: Mapping[str, Any]) -> None:
        self.status_writes += 1
        self.serve(key, status=status)

    def _keep(self, ref: Ref, manifest: Manifest, uid: str) -> None:
        body = _received(manifest)
        body["metadata"] |= {"uid": uid, "creationTimestamp": "2026-01-01T00:00:00Z"}
        self._store.feed(ref.kind, body, gone=False)


class Events:
    """`ports.Events` that nobody reads."""

    async def post(self, key: Key, uid: str, event: Event) -> None:
        pass


class Progress:
    """`ports.Progress` of a cluster in which nothing is downloaded."""

    async def read(self, address: str) -> fetching.Progress | None:
        return None


class Metrics(metrics.Metrics):
    """The real adapter, with a count of its queries."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = 0
        self.failures: list[str] = []

    async def read(self, server: Server, queries: Mapping[str, str], *, take: ports.Take) -> None:
        def noted(name: str, part: ports.Part) -> None:
            if isinstance(part, Unknown):
                self.failures.append(f"{name}: {part.reason}")
            take(name, part)

        self.queries += len(queries)
        await super().read(server, queries, take=noted)


class Operator:
    """All of it that works on a tick."""

    def __init__(self, url: str) -> None:
        self.store, self.states, self.queue = Store(), ServiceStates(), Queue()
        self.cluster, self.metrics = Cluster(self.store), Metrics()
        self.reconciling = 0.0
        """Seconds of processor time that the worker took."""
        clock, telemetry = app.SystemClock(), Telemetry(prometheus_client.CollectorRegistry())
        self._reconciler = ServiceReconciler(
            store=self.store,
            states=self.states,
            queue=self.queue,
            cluster=self.cluster,
            events=Events(),
            progress=Progress(),
            clock=clock,
            telemetry=telemetry,
        )
        self.scaler = Scaler(
            store=self.store,
            states=self.states,
            queue=self.queue,
            metrics=self.metrics,
            clock=clock,
            telemetry=telemetry,
        )
        profile = fakes.profile_body(prometheus={"url": url})
        self.store.feed(names.SERVING_PROFILE, profile, gone=False)

    async def fill(self, services: int) -> None:
        """Services that were applied, realised and have all their engines ready."""
        for number in range(services):
            key = Key(exporter.namespace(number), exporter.name(number))
            self.cluster.serve(key)
            await self._reconciler.reconcile(key)
            rollout = self.states.of(key).rollout
            assert rollout is not None
            for replica in range(exporter.REPLICAS):
                name = exporter.pod(number, replica)
                pod = fakes.pod_body(rollout.active, name=name, service=key.name, uid=f"uid-{name}")
                pod["metadata"]["namespace"] = key.namespace
                self.store.feed("Pod", pod, gone=False)
            await self._reconciler.reconcile(key)

    async def work(self) -> None:
        """One worker of the queue."""
        while True:
            key = await self.queue.get()
            if key.kind == names.INFERENCE_SERVICE:
                await self._timed(self._reconciler.reconcile(key))
            self.queue.done(key)

    @types.coroutine
    def _timed(self, work: Coroutine[Any, Any, Any]) -> Generator[Any, None, None]:
        """The same, without the time in which it waits and others have their turn."""
        while True:
            began = time.thread_time()
            try:
                waits_for = work.send(None)
            except StopIteration:
                return
            finally:
                self.reconciling += time.thread_time() - began
            yield waits_for


async def _measure(operator: Operator, *, ticks: int) -> dict[str, Any]:
    """Ticks with the worker between them; statuses count from the second half, when all is at rest."""
    worker = asyncio.create_task(operator.work())
    processor, wall = [], []
    queries, began = 0, time.monotonic()
    rest = _Taken(operator)
    for number in range(ticks):
        if number == ticks // 2:
            rest = _Taken(operator)
        tick = _Taken(operator)
        await operator.scaler.tick()
        if tick.began < began + 60:
            queries = operator.metrics.queries
        processor.append(tick.processor() - tick.reconciling())
        wall.append(tick.wall())
        sys.stderr.write(
            f"tick {number + 1} of {ticks}: {processor[-1]:.2f} s, and {tick.reconciling():.2f} s of reconciles, in "
            f"{wall[-1]:.2f} s; {len(operator.queue)} keys wait; {_peak_megabytes():.0f} MB\n"
        )
        await asyncio.sleep(max(0.0, TICK_SECONDS - wall[-1]))
    minutes = rest.wall() / 60
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
    decisions = [service.scaling.decision for _, service in operator.states.known()]
    return {
        "cpu_s": processor,
        "wall_s": wall,
        "cores_at_rest": rest.processor() / rest.wall(),
        "queries_per_minute": queries,
        "queries_failed": len(operator.metrics.failures),
        "failures": operator.metrics.failures[:3],
        "services_measured": sum(bool(one and one.known) for one in decisions),
        "status_writes_per_minute": rest.status_writes() / minutes,
    }


class _Taken:
    """What was taken since it was made, in seconds."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        self.began = time.monotonic()
        self._processor = time.process_time()
        self._reconciling = operator.reconciling
        self._status_writes = operator.cluster.status_writes

    def wall(self) -> float:
        return time.monotonic() - self.began

    def processor(self) -> float:
        return time.process_time() - self._processor

    def reconciling(self) -> float:
        """Of the processor's time, what the worker took."""
        return self._operator.reconciling - self._reconciling

    def status_writes(self) -> int:
        return self._operator.cluster.status_writes - self._status_writes


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _peak_megabytes() -> float:
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) / 1024


async def _run(url: str, services: int, ticks: int) -> dict[str, Any]:
    operator = Operator(url)
    await operator.fill(services)
    gc.collect()
    stored = psutil.Process().memory_info().rss / 2**20
    _forget_peak()
    found = await _measure(operator, ticks=ticks)
    return {**found, "stored_mb": stored, "rss_mb": _peak_megabytes()}


@click.command()
@click.option("--url", required=True)
@click.option("--services", type=int, required=True)
@click.option("--ticks", type=int, required=True)
def main(*, url: str, services: int, ticks: int) -> None:
    """Fill, tick, and say what it took: on one core."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    app.reduce_garbage_collection()
    app.shorten_thread_switching()
    click.echo(json.dumps(asyncio.run(_run(url, services, ticks))))


if __name__ == "__main__":
    main()
