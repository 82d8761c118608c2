"""A service that has what it needs is decided on each half minute, and at once when something changes."""

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


async def _decided_anew(loop: Loop, service: ServiceState, *, after: float = 5.0) -> bool:
    before = service.decision
    loop.clock.seconds += after
    await loop.scaler.tick()
    return service.decision is not before


async def _at_rest(*, running: float = 2.0) -> tuple[Loop, ServiceState]:
    """In the middle of the time until it is looked at again in any case."""
    loop = Loop(_calm(running=running))
    service = loop.serve()
    await loop.scaler.tick()
    assert service.rest is not None
    half = service.rest.until - loop.clock.seconds + steady_state.SECONDS / 2
    assert await _decided_anew(loop, service, after=half)
    return loop, service


async def test_a_service_at_rest_is_decided_anew_each_half_minute() -> None:
    loop, service = await _at_rest()
    anew = [await _decided_anew(loop, service) for _ in range(12)]
    assert anew == [False, False, True, False, False, False] * 2


def test_services_at_rest_have_their_turns_at_different_times() -> None:
    keys = [Key(given.NAMESPACE, f"service-{number}") for number in range(600)]
    places = collections.Counter(steady_state.deadline(key, now=7.0) // 5 for key in keys)
    assert len(places) == 7  # the first and the last are parts of 5 seconds
    assert max(places.values()) < 150


async def test_a_load_that_falls_ends_the_rest() -> None:
    loop, service = await _at_rest(running=8.0)
    loop.metrics.answers = _calm(running=4.0).answers
    assert await _decided_anew(loop, service)


@pytest.mark.parametrize(
    "metrics",
    [_calm(running=4.0), _calm(waiting=1.0), _calm(slow=True), fakes.SilentMetrics()],
    ids=["more load", "requests wait", "an objective is missed", "nothing is known"],
)
async def test_what_may_need_more_is_decided_at_once(metrics: fakes.Metrics) -> None:
    loop, service = await _at_rest()
    service.rest = dataclasses.replace(service.rest, until=1e9) if service.rest else None
    loop.metrics.answers = metrics.answers
    if isinstance(metrics, fakes.SilentMetrics):
        loop.scaler._metrics = metrics
    assert await _decided_anew(loop, service, after=15.0)


async def test_a_change_of_the_pods_is_decided_on_at_once() -> None:
    loop, service = await _at_rest()
    assert service.rollout is not None
    pod = fakes.pod_body(service.rollout.active, name="new", service=given.NAME, uid="new")
    loop.store.feed("Pod", pod, gone=False)
    assert await _decided_anew(loop, service)
