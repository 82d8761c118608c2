"""Scaling loop: one set of queries for all services, and one decision for each, which queues a reconcile."""

import asyncio
import dataclasses
import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from slipstream_operator.core import speculation
from slipstream_operator.core.scaling import policy
from slipstream_operator.core.scaling.metrics import queries
from slipstream_operator.core.scaling.metrics.values import Sample, Unknown
from slipstream_operator.shell.service_states import ServiceState
from tests.support import fakes, given
from tests.support.scalers import FIXED, SPEC, Loop, busy, series


async def test_a_decision_queues_a_reconcile() -> None:
    loop = Loop(busy())
    service = loop.serve()
    await loop.scaler.tick()
    assert service.scaling.decision is not None
    assert service.scaling.decision.desired == 2
    assert service.scaling.state is not None
    assert service.scaling.state.desired == 2
    assert await loop.queue.get() == given.KEY


@pytest.mark.parametrize(
    "metrics", [fakes.Metrics(), fakes.SilentMetrics()], ids=["empty", "silent"]
)
async def test_without_data_the_count_is_held(metrics: fakes.Metrics) -> None:
    loop = Loop(metrics)
    service = loop.serve(desired=5, ready=5)
    await loop.scaler.tick()
    assert service.scaling.decision is not None
    assert (service.scaling.decision.desired, service.scaling.decision.known) == (5, False)


async def _ticked_once(loop: Loop) -> ServiceState:
    """Return a service with at most one replica after its first tick."""
    service = loop.serve(spec={**SPEC, "scaling": {"maxReplicas": 1}})
    await loop.scaler.tick()
    loop.queue.done(await loop.queue.get())
    return service


async def test_neither_an_outage_nor_its_end_queues_all_services_at_once() -> None:
    loop = Loop(busy())
    await _ticked_once(loop)
    answering = loop.metrics
    for metrics in (fakes.SilentMetrics(), answering):
        loop.scaler._metrics = metrics
        loop.clock.seconds += 20.0
        await loop.scaler.tick()
        assert len(loop.queue) == 0


async def test_a_change_during_an_outage_queues_the_service_after_it() -> None:
    loop = Loop(busy())
    service = await _ticked_once(loop)
    loop.scaler._metrics = fakes.SilentMetrics()
    await loop.scaler.tick()
    assert service.scaling.decision is not None
    assert not service.scaling.decision.known
    loop.scaler._metrics = fakes.Metrics()  # no engine reports any more
    await loop.scaler.tick()
    assert len(loop.queue) == 1


async def test_a_replica_count_changed_by_a_reconcile_is_decided_at_once() -> None:
    loop = Loop(busy())
    service = await _ticked_once(loop)
    assert service.scaling.decision is not None
    changed = dataclasses.replace(service.scaling.decision, desired=3)
    service.record(dataclasses.replace(service.scaling, decision=changed))
    loop.scaler._metrics = fakes.SilentMetrics()
    await loop.scaler.tick()
    assert len(loop.queue) == 1


async def test_without_a_prometheus_nothing_is_queried_and_the_count_is_held() -> None:
    loop = Loop(fakes.Metrics())
    service = loop.serve(desired=3, profile=given.profile(without=["prometheus"]))
    await loop.scaler.tick()
    assert loop.metrics.asked == []
    assert service.scaling.decision is not None
    reason = "Holding 3 replicas: the ServingProfile names no prometheus.url."
    assert service.scaling.decision.reason == reason


async def test_a_fixed_count_is_measured_but_not_changed() -> None:
    loop = Loop(busy())
    service = loop.serve(spec=FIXED, desired=2)
    await loop.scaler.tick()
    assert service.scaling.measured is not None
    assert not isinstance(service.scaling.measured.load, Unknown)
    assert service.scaling.decision is not None
    assert service.scaling.decision.desired == 2


async def test_missing_pods_of_the_desired_count_count_as_starting() -> None:
    loop = Loop(busy())
    service = loop.serve(desired=5, ready=1)
    await loop.scaler.tick()
    assert service.scaling.decision is not None
    assert service.scaling.decision.desired == 5


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
async def test_pods_that_ended_count_neither_as_starting_nor_as_stuck(phase: str) -> None:
    loop = Loop(busy())
    service = loop.serve()
    assert service.rollout is not None
    evicted = fakes.pod_body(service.rollout.active, name="evicted", uid="evicted")
    evicted["status"] = {"phase": phase, "reason": "Evicted"}
    evicted["metadata"]["creationTimestamp"] = "2026-01-03T00:43:00Z"  # 20 s ago
    loop.store.feed("Pod", evicted, gone=False)
    await loop.scaler.tick()
    assert service.scaling.decision is not None
    assert service.scaling.decision.numbers is not None
    assert (service.scaling.decision.numbers.ready, service.scaling.decision.numbers.starting) == (
        1,
        0,
    )
    assert service.scaling.decision.limited is None


@pytest.mark.parametrize("gone", ["evicted", "deleted"])
async def test_a_service_scales_up_beside_pods_that_are_gone(gone: str) -> None:
    loop = Loop(busy())
    service = loop.serve()
    assert service.rollout is not None
    for n in range(3):
        body = fakes.pod_body(service.rollout.active, name=f"gone-{n}", uid=f"gone-{n}")
        body["metadata"]["creationTimestamp"] = "2026-01-03T00:43:00Z"  # 20 s ago
        if gone == "deleted":
            body["metadata"]["deletionTimestamp"] = "2026-01-03T00:44:00Z"
        else:
            ended = {"terminated": {"exitCode": 137}}
            body["status"] = {
                "phase": "Failed",
                "reason": "Evicted",
                "containerStatuses": [{"name": "engine", "state": ended}],
            }
        loop.store.feed("Pod", body, gone=False)
    await loop.scaler.tick()
    assert service.scaling.decision is not None
    assert service.scaling.decision.limited is None
    assert service.scaling.decision.desired > 1


async def test_replicas_that_are_only_recommended_do_not_count_as_starting() -> None:
    loop = Loop(busy())
    recommend = {**SPEC, "scaling": {"maxReplicas": 9, "mode": "Recommend"}}
    service = loop.serve(spec=recommend, desired=3, ready=1)
    await loop.scaler.tick()
    assert service.scaling.state is not None
    assert service.scaling.state.concurrency is not None  # it learns from the engine that runs


async def test_a_service_that_is_not_accepted_is_skipped() -> None:
    loop = Loop(busy())
    service = loop.serve()
    service.resolved = service.rollout = None
    await loop.scaler.tick()
    assert service.scaling.decision is None
    assert len(loop.queue) == 0


async def test_without_a_change_a_service_is_queued_within_a_minute() -> None:
    loop = Loop(fakes.Metrics())
    loop.serve()
    await loop.scaler.tick()
    loop.queue.done(await loop.queue.get())
    await loop.scaler.tick()
    assert len(loop.queue) == 0
    began = asyncio.get_running_loop().time()
    await loop.queue.get()
    assert asyncio.get_running_loop().time() - began == pytest.approx(60.0, abs=0.1)


class Failing(fakes.Metrics):
    """Fail the first query."""

    async def query(self, url: str, queries: Any) -> Any:
        self.asked.append((url, ""))
        if len(self.asked) == 1:
            raise RuntimeError("a bug")
        return {}


async def test_the_loop_survives_a_failed_tick() -> None:
    loop = Loop(Failing())
    loop.serve()
    task = asyncio.create_task(loop.scaler.run(every=5.0))
    await asyncio.sleep(12.0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert len(loop.metrics.asked) >= 3


async def test_a_lasting_loss_by_speculation_queues_a_reconcile() -> None:
    metrics = fakes.Metrics()
    loop = Loop(metrics)
    service = loop.serve(spec=FIXED)
    assert service.rollout is not None
    labels = {"namespace": given.NAMESPACE, "service": given.NAME}
    sample = Sample({**labels, "revision": service.rollout.active}, 0.6)
    metrics.answers = {queries.GAIN: [sample]}
    await loop.scaler.tick()
    loop.queue.done(await loop.queue.get())
    await loop.scaler.tick()
    assert len(loop.queue) == 0
    loop.clock.seconds += speculation.PATIENCE
    await loop.scaler.tick()
    assert len(loop.queue) == 1
    assert service.scaling.measured is not None
    assert service.scaling.measured.loss is not None


async def test_a_failed_decision_keeps_the_count_and_delays_no_other_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = Loop(busy())
    broken, other = loop.serve("broken", desired=3), loop.serve()
    decide = policy.decide

    def failing(inputs: Any, state: Any) -> Any:
        if state.desired == 3:
            raise OverflowError("a value of one pod's page")
        return decide(inputs, state)

    with monkeypatch.context() as patched:
        patched.setattr(policy, "decide", failing)
        await loop.scaler.tick()
    assert other.scaling.decision is not None and other.scaling.decision.desired == 2
    assert broken.scaling.decision is not None and not broken.scaling.decision.known
    assert (
        broken.scaling.decision.desired,
        broken.scaling.state and broken.scaling.state.desired,
    ) == (
        3,
        3,
    )
    assert "Holding 3 replicas: the metrics" in broken.scaling.decision.reason
    await loop.scaler.tick()
    assert "the metrics have values" not in broken.scaling.decision.reason


EXTREMES = (0.0, 5e-324, 1e-300, 1e15, 1e100, 1e308, -1.0, math.nan, math.inf)

PER_SERVICE = (
    *queries.LENGTHS, "arrivals", "surge", "cancelled", "held", "kv_tokens", "sequences", "gain",
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@drawn(data=st.data())
def test_no_metric_values_of_a_pod_make_a_decision_fail(data: st.DataObject) -> None:
    answers = busy(2).answers
    labels = {"namespace": given.NAMESPACE, "service": given.NAME}
    for name in data.draw(st.sets(st.sampled_from((*queries.PER_POD, *PER_SERVICE)))):
        value = data.draw(st.sampled_from(EXTREMES))
        per_pod = name in queries.PER_POD
        answers[name] = series(value, ready=2) if per_pod else [Sample(labels, value)]
    for span in ("now", "5m"):
        bounds = st.sampled_from(["0", "-1", "abc", "NaN", "+Inf", "-Inf", "0.5", "1e308"])
        buckets = st.lists(st.tuples(bounds, st.sampled_from(EXTREMES)), max_size=5)
        answers[f"ttft:{span}"] = [
            Sample({**labels, "le": le}, value) for le, value in data.draw(buckets)
        ]
    loop = Loop(fakes.Metrics(answers))
    service = loop.serve(ready=2, desired=2)
    for _ in range(3):
        asyncio.run(loop.scaler.tick())
        loop.clock.seconds += 30
    assert service.scaling.decision is not None
    assert "values that no decision" not in service.scaling.decision.reason


async def test_a_rollout_to_more_engines_a_replica_sizes_the_old_revision_by_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sized by the new number, the old pods would seem to have room for eight times their load."""
    asked: list[int] = []
    decide = policy.decide

    def noting(inputs: Any, state: Any) -> Any:
        asked.append(inputs.engines)
        return decide(inputs, state)

    monkeypatch.setattr(policy, "decide", noting)
    loop = Loop(busy())
    service = loop.serve()
    await loop.scaler.tick()
    assert service.resolved is not None and service.rollout is not None
    service.resolved = dataclasses.replace(service.resolved, engines=8)
    service.rollout = dataclasses.replace(service.rollout, wanted="new")
    loop.clock.seconds += 30
    await loop.scaler.tick()
    service.rollout = dataclasses.replace(service.rollout, active="new")
    loop.clock.seconds += 30
    await loop.scaler.tick()
    assert asked == [1, 1, 8]
