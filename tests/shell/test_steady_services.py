"""A steady service is decided every half minute, and at once when something changes."""

import collections
import dataclasses

import pytest

from slipstream_operator.core.observed import Key
from slipstream_operator.core.scaling import steady_state
from slipstream_operator.core.scaling.metrics.values import Sample
from slipstream_operator.shell.service_states import ServiceState
from tests.support import fakes, given
from tests.support.scalers import GAUGES, RATES, Loop, series


def _calm(*, running: float = 2.0, waiting: float = 0.0, slow: bool = False) -> fakes.Metrics:
    labels = {"namespace": given.NAMESPACE, "service": given.NAME}
    within = 0.0 if slow else 90.0
    counts = (("0.25", within), ("0.5", within), ("1.0", 90.0), ("+Inf", 90.0))
    gauges = {**GAUGES, "running": running, "waiting": waiting, "waiting_mean": waiting}
    return fakes.Metrics(
        {
            **{name: series(value) for name, value in gauges.items()},
            **{name: [] for name in RATES},
            "ttft:now": [Sample({**labels, "le": le}, count) for le, count in counts],
        }
    )


async def _is_decided(loop: Loop, service: ServiceState, *, after: float = 5.0) -> bool:
    before = service.scaling.decision
    loop.clock.seconds += after
    await loop.scaler.tick()
    return service.scaling.decision is not before


async def _steady_service(*, running: float = 2.0) -> tuple[Loop, ServiceState]:
    """Return a steady service, halfway to its next scheduled decision."""
    loop = Loop(_calm(running=running))
    service = loop.serve()
    await loop.scaler.tick()
    assert service.scaling.steady_state is not None
    half = service.scaling.steady_state.until - loop.clock.seconds + steady_state.SECONDS / 2
    assert await _is_decided(loop, service, after=half)
    return loop, service


async def test_a_steady_service_is_decided_every_half_minute() -> None:
    loop, service = await _steady_service()
    decisions = [await _is_decided(loop, service) for _ in range(12)]
    assert decisions == [False, False, True, False, False, False] * 2


def test_steady_services_are_decided_at_different_times() -> None:
    keys = [Key(given.NAMESPACE, f"service-{number}") for number in range(600)]
    places = collections.Counter(steady_state.deadline(key, now=7.0) // 5 for key in keys)
    assert len(places) == 7  # the first and the last are parts of 5 seconds
    assert max(places.values()) < 150


async def test_a_falling_load_ends_the_steady_state() -> None:
    loop, service = await _steady_service(running=8.0)
    loop.metrics.answers = _calm(running=4.0).answers
    assert await _is_decided(loop, service)


@pytest.mark.parametrize(
    "metrics",
    [_calm(running=4.0), _calm(waiting=1.0), _calm(slow=True), fakes.SilentMetrics()],
    ids=["more load", "requests wait", "an objective is missed", "nothing is known"],
)
async def test_a_service_that_may_need_more_replicas_is_decided_at_once(
    metrics: fakes.Metrics,
) -> None:
    loop, service = await _steady_service()
    assert service.scaling.steady_state is not None
    steady = dataclasses.replace(service.scaling.steady_state, until=1e9)
    service.record(dataclasses.replace(service.scaling, steady_state=steady))
    loop.metrics.answers = metrics.answers
    if isinstance(metrics, fakes.SilentMetrics):
        loop.scaler._metrics = metrics
    assert await _is_decided(loop, service, after=15.0)


async def test_a_change_of_the_pods_is_decided_on_at_once() -> None:
    loop, service = await _steady_service()
    assert service.rollout is not None
    pod = fakes.pod_body(service.rollout.active, name="new", service=given.NAME, uid="new")
    loop.store.feed("Pod", pod, gone=False)
    assert await _is_decided(loop, service)
