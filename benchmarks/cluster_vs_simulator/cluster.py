"""A scenario in the local cluster: its very requests through the router, its faults done to real pods."""

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from dev.cluster.kube import Kube, Object, condition, is_true
from slipstream_runtime.evaluate import load
from slipstream_runtime.evaluate import traffic as replay
from slipstream_runtime.evaluate.records import Record
from slipstream_simulator import traffic
from slipstream_simulator.events import Event
from slipstream_simulator.kernel import layout
from slipstream_simulator.kernel.layout import Records
from slipstream_simulator.pods import Pod
from slipstream_simulator.scenarios import Scenario
from slipstream_simulator.simulation import Run
from tests.support import faults

EVERY: Final = 1.0
"""Seconds between two looks at the cluster."""


@dataclass(frozen=True)
class Observation:
    """The service as the API server told it at one moment."""

    at: float
    """Seconds since the first request could come."""
    desired: int
    reason: str
    pods: Mapping[str, bool]
    """Name of each pod that is not told to go -> whether it is ready."""
    leaving: frozenset[str] = frozenset()

    @property
    def ready(self) -> int:
        """Pods that take requests."""
        return sum(self.pods.values())


@dataclass
class Recording:
    """What happened in the cluster, and when things were done to it."""

    scenario: Scenario
    seed: int
    began: float
    """Seconds since the epoch."""
    observations: list[Observation] = field(default_factory=list)
    answers: tuple[Record, ...] = ()
    restarted: list[tuple[float, float]] = field(default_factory=list)
    """When the operator's pods were killed, and when one led again."""
    blind: list[tuple[float, float]] = field(default_factory=list)
    """When Prometheus' pod was killed, and when another one was ready."""

    def run(self) -> Run:
        """As the simulator would tell it."""
        return Run(
            scenario=self.scenario,
            policy="cluster",
            seed=self.seed,
            requests=_requests(self.scenario, self.answers, seed=self.seed),
            pods=_pods(self.observations),
            requested=changes([(one.at, one.desired) for one in self.observations]),
            ready=changes([(one.at, one.ready) for one in self.observations]),
        )


def manifest(scenario: Scenario, *, namespace: str) -> Object:
    """The InferenceService with the scenario's engine, objectives and limits; a cold start of 5 s is part of its."""
    engine = scenario.engine
    return {
        "apiVersion": "slipstream.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": scenario.name, "namespace": namespace},
        "spec": {
            "runtime": "simulator",
            "simulator": {
                **{
                    name: f"{1e3 * getattr(engine, name):.6f}ms"
                    for name in ("alpha", "beta", "gamma", "delta")
                },
                "kvTokens": engine.kv_tokens,
                "maxSequences": engine.max_sequences,
                "coldStart": "5s",
            },
            "slo": scenario.slo.model_dump(by_alias=True, exclude_none=True),
            "scaling": {
                "minReplicas": scenario.scaling.min_replicas,
                "maxReplicas": scenario.scaling.max_replicas,
            },
        },
    }


def play(kube: Kube, scenario: Scenario, *, namespace: str, seed: int) -> Recording:
    """Serve the scenario in this namespace from its first second to its last."""
    kube.apply(manifest(scenario, namespace=namespace))
    service = kube.until(
        "InferenceService",
        namespace,
        lambda items: next((item for item in items if is_true(item, "Ready")), None),
        name=scenario.name,
        timeout=90,
    )
    found = kube.get("Service", namespace, service["metadata"]["name"])
    assert found is not None
    sent = plan(scenario, url=f"http://{found['spec']['clusterIP']}", seed=seed)
    return asyncio.run(_play(kube, scenario, sent, namespace=namespace, seed=seed))


def changes(values: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
    """The first value and those that differ from the one before; the first holds from the start."""
    kept = [(0.0, values[0][1])]
    for (_, before), (at, after) in itertools.pairwise(values):
        if after != before:
            kept.append((at, after))
    return kept


async def _play(
    kube: Kube, scenario: Scenario, sent: replay.Plan, *, namespace: str, seed: int
) -> Recording:
    recording = Recording(scenario, seed, began=time.time())
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def until(at: float) -> None:
        await asyncio.sleep(began + at - loop.time())

    async def watch() -> None:
        for second in itertools.count():
            await until(second * EVERY)
            at = loop.time() - began
            observation = await asyncio.to_thread(_look, kube, scenario.name, namespace, at=at)
            recording.observations.append(observation)

    async def do(event: Event) -> None:
        await until(event.at)
        killed = loop.time() - began
        if event.restart_operator:
            await asyncio.to_thread(faults.restart_operator, kube)
            recording.restarted.append((killed, loop.time() - began))
        elif event.metrics_outage is not None:
            async with _apart(faults.without_prometheus(kube)):
                await until(event.until)
            recording.blind.append((killed, loop.time() - began))
        else:
            raise ValueError(f"events: {event.kind}: this benchmark can't do that to a cluster")

    watching = asyncio.create_task(watch())
    try:
        async with asyncio.TaskGroup() as group:
            for event in scenario.events:
                group.create_task(do(event))
            report = await load.run(sent)
        recording.answers = report.records
        await until(scenario.duration)
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
    return recording


@contextlib.asynccontextmanager
async def _apart(block: contextlib.AbstractContextManager[None]) -> AsyncIterator[None]:
    """The block's begin and end in a thread, so that requests go on being sent."""
    await asyncio.to_thread(block.__enter__)
    try:
        yield
    finally:
        await asyncio.to_thread(block.__exit__, None, None, None)


def _look(kube: Kube, name: str, namespace: str, *, at: float) -> Observation:
    service = kube.get("InferenceService", namespace, name)
    assert service is not None
    scaling = service["status"].get("scaling", {"desired": 1, "reason": ""})
    selector = f"slipstream.dev/service={name}"
    pods = kube.find("Pod", namespace, labelSelector=selector)
    leaving = frozenset(p["metadata"]["name"] for p in pods if "deletionTimestamp" in p["metadata"])
    return Observation(
        at=at,
        desired=scaling["desired"],
        reason=scaling["reason"],
        pods={
            pod["metadata"]["name"]: condition(pod, "Ready").get("status") == "True"
            for pod in pods
            if pod["metadata"]["name"] not in leaving
        },
        leaving=leaving,
    )


def plan(scenario: Scenario, *, url: str, seed: int) -> replay.Plan:
    """Prompts of random words, each of 4 characters with its space: one token to the simulated engine."""
    requests = traffic.requests(scenario, seed=seed)
    dice = random.Random(seed)
    bodies: list[Mapping[str, Any]] = [
        {
            "prompt": " ".join(dice.choices(replay.WORDS, k=int(one["prompt"]))),
            "max_tokens": int(one["output"]),
        }
        for one in requests
    ]
    return replay.Plan(
        url=url,
        model=scenario.name,
        duration=scenario.duration,
        times=tuple(requests["arrival"].tolist()),
        prompts=tuple(bodies),
        connect_retries=scenario.client.retries,
        timeout=scenario.client.timeout or scenario.duration,
    )


def _requests(scenario: Scenario, answers: Sequence[Record], *, seed: int) -> Records:
    """The scenario's requests with the times that their clients saw."""
    records = traffic.requests(scenario, seed=seed)
    assert len(records) == len(answers), "each request has one answer"
    records["arrival"] = [one.start for one in answers]
    records["first"] = [np.nan if one.ttft is None else one.start + one.ttft for one in answers]
    records["finished"] = [one.start + one.duration for one in answers]
    records["fate"] = [layout.FINISHED if one.succeeded else layout.REJECTED for one in answers]
    # NB: what ends after the end is open to the simulator, too.
    records["fate"][records["finished"] > scenario.duration] = layout.LIVE
    return records


def _pods(observations: Sequence[Observation]) -> list[Pod]:
    """Pods from the moments at which they were seen first, ready, told to go, and not any more."""
    found: dict[str, Pod] = {}
    for one in observations:
        present = {**one.pods, **dict.fromkeys(one.leaving, False)}
        for name, ready in present.items():
            if name not in found:
                found[name] = Pod(name, len(found), created=one.at, scheduled=one.at)
            pod = found[name]
            if ready and pod.ready is None:
                pod.ready = one.at
            if name in one.leaving and pod.closed is None:
                pod.closed = one.at
        for name, pod in found.items():
            if name not in present and pod.ended is None:
                pod.ended = one.at
    return list(found.values())
