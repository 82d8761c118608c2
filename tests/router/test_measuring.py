"""Metrics: the engines' load as the router scrapes it, and the router's own."""

import asyncio
import time

from dev import metrics
from slipstream_runtime import contract
from tests.support import backends
from tests.support.backends import Held, Peer, Received
from tests.support.routers import Running, routing, until


def told(waiting: int) -> str:
    return f'vllm:num_requests_waiting{{engine="0"}} {waiting}\nvllm:kv_cache_usage_perc 0.5\n'


def loads(router: Running) -> list[float | None]:
    return [None if e.load is None else e.load.waiting for e in router.chat.pool]


async def test_requests_go_where_fewer_wait() -> None:
    async with backends.running(2) as (busy, idle):
        busy.metrics, idle.metrics = told(50), told(0)
        async with routing(busy, idle) as router:
            await until(lambda: sorted(loads(router), key=str) == [0, 50])
            for _ in range(5):
                await router.ask()
            assert [len(busy.received), len(idle.received)] == [0, 5]


async def test_what_an_engine_said_long_ago_is_ignored() -> None:
    async with backends.running(2) as (busy, idle):
        busy.metrics, idle.metrics = told(50), told(0)
        async with routing(busy, idle) as router:
            await until(lambda: sorted(loads(router), key=str) == [0, 50])
            for endpoint in router.chat.pool:
                assert endpoint.fresh_load(time.monotonic()) is not None
                assert endpoint.fresh_load(time.monotonic() + 3.1) is None


async def test_an_engine_that_is_slow_to_tell_delays_no_other() -> None:
    async with backends.running(2) as (slow, quick):
        slow.scrape = Held(then=None)
        quick.metrics = told(7)
        async with routing(slow, quick) as router:
            await until(lambda: 7 in loads(router))
            assert None in loads(router)
            assert (await router.ask()).status == 200


async def test_an_engine_without_the_series_is_not_taken_for_idle() -> None:
    async with backends.running() as (engine,):
        engine.metrics = "vllm:num_requests_waiting NaN\n"
        async with routing(engine) as router:
            await until(lambda: all(e.load is not None for e in router.chat.pool))
            [endpoint] = router.chat.pool
            assert endpoint.load.waiting is None
            assert endpoint.load.kv is None


async def test_the_exported_text_is_what_prometheus_reads() -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        await router.ask(stream=True)
        await router.ask(model="other")
        url = f"http://127.0.0.1:{router.management}{contract.METRICS_PATH}"
        async with router.http.get(url) as response:
            text = await response.text()
        for name in (contract.ROUTER_TTFT, contract.ROUTER_ITL, contract.ROUTER_E2E):
            [count] = metrics.samples(text, f"{name}_count")
            assert count.labels == {contract.SERVICE_LABEL: "chat"}
        buckets = metrics.samples(text, f"{contract.ROUTER_TTFT}_bucket")
        assert len(buckets) == len(contract.LATENCY_BUCKETS[contract.TTFT]) + 1
        refused = "slipstream_router_refused_requests_total"
        assert metrics.total(text, refused, reason="unknown_model") == 1
        assert "_created" not in text


async def test_a_scrape_never_keeps_streams_waiting_for_more_than_a_small_part_of_it() -> None:
    """Measure processor time, without that of other processes: a stream would notice 2 ms."""
    async with routing() as router:
        router.configure(*({"name": f"s{n}", "model": f"m{n}"} for n in range(20)))
        turns: list[float] = []

        async def watch() -> None:
            last = time.thread_time()
            while True:
                await asyncio.sleep(0)
                now = time.thread_time()
                turns.append(now - last)
                last = now

        longest, share = 1.0, 1.0
        for _ in range(10):  # the best of them: a look for garbage may fall into any
            turns.clear()
            watching = asyncio.create_task(watch())
            await asyncio.sleep(0)
            await router.router.metrics.render()
            watching.cancel()
            longest = min(longest, max(turns))
            share = min(share, max(turns) / sum(turns))
        assert longest < 0.002
        assert share < 0.1


async def test_tokens_are_counted_as_the_engine_counts_them() -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        await router.ask()
        await router.ask(stream=True, stream_options={"include_usage": True})
        name = "slipstream_router_tokens_total"
        assert await router.metric(name, kind="prompt") == 14
        assert await router.metric(name, kind="output") == 6


async def test_the_status_tells_where_requests_are() -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        engine.always = held = Held()
        asking = asyncio.create_task(router.ask())
        await until(lambda: held.waiting == 1)
        url = f"http://127.0.0.1:{router.management}{contract.STATUS_PATH}"
        async with router.http.get(url) as response:
            found = await response.json()
        assert found["inFlight"] == 1
        assert found["services"]["chat"]["endpoints"][0]["inFlight"] == 1
        held.release.set()
        await asking


async def test_a_response_stream_of_the_responses_api_has_an_end_of_its_own() -> None:
    async def respond(peer: Peer, received: Received) -> None:
        await peer.stream()
        await peer.chunk(b"event: response.created\ndata: {}\n\n")
        await peer.chunk(b"event: response.comp")
        await peer.chunk(b'leted\ndata: {"response": {}}\n\n')
        await peer.write(b"0\r\n\r\n")

    async with backends.running() as (engine,), routing(engine) as router:
        engine.always = respond
        reply = await router.ask("/v1/responses", stream=True)
        assert b"error" not in reply.body
        assert await router.metric("slipstream_router_broken_streams_total") == 0


async def test_a_page_without_end_is_not_read() -> None:
    """An engine may run a tenant's own image."""
    async with backends.running() as (engine,):
        scrapes, whole = [], engine.scrape

        async def endless(peer: Peer, received: Received) -> None:
            scrapes.append(received.path)
            await whole(peer, received)

        engine.metrics = told(7) + "# " + "x" * (5 << 20) + "\n"
        engine.scrape = endless
        async with routing(engine) as router:
            await until(lambda: len(scrapes) > 1)
            assert loads(router) == [None]


async def test_an_engine_sends_the_router_nowhere_else() -> None:
    async with backends.running(2) as (engine, victim):
        scrapes = []

        async def elsewhere(peer: Peer, received: Received) -> None:
            scrapes.append(received.path)
            url = f"http://127.0.0.1:{victim.port}/internal"
            await backends.status(302, location=url)(peer, received)

        engine.scrape = elsewhere
        async with routing(engine):
            await until(lambda: len(scrapes) > 1)
        assert victim.received == []
