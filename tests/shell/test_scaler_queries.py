"""Queries of the scaling loop: how many, how often, and for which services."""

import asyncio
from collections.abc import Mapping

from slipstream_operator import ports
from slipstream_operator.core.prometheus import Server
from slipstream_operator.core.scaling.metrics.values import Sample
from tests.support import fakes, given
from tests.support.scalers import SPEC, Loop, busy


async def test_the_number_of_queries_does_not_depend_on_the_number_of_services() -> None:
    asked = []
    for services in (1, 50):
        loop = Loop(fakes.Metrics())
        for number in range(services):
            loop.serve(f"service-{number}")
        await loop.scaler.tick()
        asked.append(len(loop.metrics.asked))
    assert asked[0] == asked[1] > 0


async def test_each_prometheus_is_queried_once() -> None:
    loop = Loop(fakes.Metrics())
    for number, url in enumerate(["http://a", "http://b", "http://a"]):
        loop.serve(f"service-{number}", profile=given.profile(prometheus={"url": url}))
    await loop.scaler.tick()
    urls = [url for url, _ in loop.metrics.asked]
    assert urls.count("http://a") == urls.count("http://b") == len(urls) / 2


async def _asked_per_tick(loop: Loop, ticks: int) -> list[list[str]]:
    asked = []
    for _ in range(ticks):
        loop.metrics.asked.clear()
        await loop.scaler.tick()
        asked.append([query for _, query in loop.metrics.asked if "_bucket" in query])
        loop.clock.seconds += 5.0
    return asked


async def test_latencies_are_queried_as_often_as_they_change() -> None:
    loop = Loop(fakes.Metrics())
    loop.serve()
    everything = [query for asked in await _asked_per_tick(loop, 24) for query in asked]
    spans = ("[60s]", "[300s]", "[3600s]", "[86400s]")
    assert [sum(span in query for query in everything) for span in spans] == [8, 2, 2, 2]


async def test_queries_over_long_ranges_are_spread_over_the_ticks() -> None:
    loop = Loop(fakes.Metrics())
    latencies = {metric: {"p95": "1s"} for metric in ("ttft", "tpot", "e2e")}
    loop.serve(spec={**SPEC, "slo": latencies})
    asked = await _asked_per_tick(loop, 13)
    long_ranges = [sum("[60s]" not in query for query in queries) for queries in asked]
    assert max(long_ranges) == 1


async def test_a_new_objective_is_measured_with_the_next_round() -> None:
    loop = Loop(busy())
    service = loop.serve(spec={**SPEC, "slo": {"ttft": {"p95": "500ms"}, "tpot": {"p95": "1s"}}})
    await _asked_per_tick(loop, 4)
    loop.serve(spec={**SPEC, "slo": {"ttft": {"p95": "1s"}, "tpot": {"p95": "2s"}}})
    await _asked_per_tick(loop, 4)
    assert service.scaling.measured is not None
    assert isinstance(service.scaling.measured.readings, tuple)
    assert len(service.scaling.measured.readings) == 2


async def test_only_latencies_with_objectives_are_queried() -> None:
    loop = Loop(fakes.Metrics())
    loop.serve()
    await loop.scaler.tick()
    buckets = [query for _, query in loop.metrics.asked if "_bucket" in query]
    assert all("time_to_first_token" in query for query in buckets)


async def _asked_for_a_day(loop: Loop, ticks: int) -> list[str]:
    asked = [query for queries in await _asked_per_tick(loop, ticks) for query in queries]
    return [query for query in asked if "[86400s]" in query]


def _with_bounds(*bounds: str) -> fakes.Metrics:
    labels = {"namespace": given.NAMESPACE, "service": given.NAME}
    return fakes.Metrics({"ttft:now": [Sample({**labels, "le": le}, 90.0) for le in bounds]})


async def test_a_day_is_queried_only_for_the_buckets_around_the_targets() -> None:
    loop = Loop(_with_bounds("0.01", "0.04", "0.1", "0.25", "0.5", "1.0", "+Inf"))
    loop.serve()
    loop.serve("other", spec={**SPEC, "slo": {"ttft": {"p95": "80ms"}}})
    (query,) = await _asked_for_a_day(loop, 13)
    assert 'le=~"0[.]04|0[.]1|0[.]25|0[.]5|[+]Inf"' in query


async def test_a_day_is_queried_at_once_when_other_buckets_matter() -> None:
    loop = Loop(_with_bounds("0.25", "0.5", "1.0", "+Inf"))
    loop.serve()
    assert len(await _asked_for_a_day(loop, 13)) == 1
    loop.metrics.answers = _with_bounds("0.4", "0.6", "+Inf").answers
    (query,) = await _asked_for_a_day(loop, 5)
    assert 'le=~"0[.]4|0[.]6|[+]Inf"' in query


async def test_a_histogram_is_kept_until_its_next_query() -> None:
    loop = Loop(busy())
    service = loop.serve()
    for _ in range(2):
        await loop.scaler.tick()
        assert service.scaling.measured is not None
        assert isinstance(service.scaling.measured.readings, tuple)
        assert service.scaling.measured.readings[0].requests == 90.0
        loop.metrics.answers = {
            name: answer for name, answer in loop.metrics.answers.items() if name != "ttft:now"
        }


async def test_a_failed_query_is_repeated_in_the_next_tick() -> None:
    loop = Loop(fakes.SilentMetrics())
    loop.serve()
    await loop.scaler.tick()
    loop.scaler._metrics = loop.metrics = fakes.Metrics()
    assert any("[60s]" in query for query in (await _asked_per_tick(loop, 1))[0])


class _Waiting(fakes.Metrics):
    """The first Prometheus answers once the second one was queried."""

    def __init__(self) -> None:
        super().__init__()
        self._queried = asyncio.Event()

    async def read(self, server: Server, queries: Mapping[str, str], *, take: ports.Take) -> None:
        if server.url == "http://a":
            await self._queried.wait()
        else:
            self._queried.set()
        await super().read(server, queries, take=take)


async def test_a_prometheus_that_answers_late_delays_no_service_of_another() -> None:
    loop = Loop(_Waiting())
    for name, url in (("late", "http://a"), ("other", "http://b")):
        loop.serve(name, profile=given.profile(prometheus={"url": url}))
    await asyncio.wait_for(loop.scaler.tick(), 30)
    assert {url for url, _ in loop.metrics.asked} == {"http://a", "http://b"}


class _Silent(fakes.Metrics):
    """The first Prometheus never answers."""

    async def read(self, server: Server, queries: Mapping[str, str], *, take: ports.Take) -> None:
        await super().read(server, queries, take=take)
        if server.url == "http://a":
            await asyncio.Event().wait()


async def test_a_prometheus_that_never_answers_delays_no_later_tick_of_another() -> None:
    loop = Loop(_Silent())
    for name, url in (("silent", "http://a"), ("other", "http://b")):
        loop.serve(name, profile=given.profile(prometheus={"url": url}))
    running = asyncio.create_task(loop.scaler.run(every=5.0))
    await asyncio.sleep(61.0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    every_tick = [url for url, query in loop.metrics.asked if "running" in query]
    # NB: each tick waits for a moment, and the clock of the scaler stands still.
    assert every_tick.count("http://b") >= 6 * every_tick.count("http://a") > 0
