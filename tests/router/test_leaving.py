"""Drain of a router: unready, no new requests, queued requests refused, streams finished or ended with an error."""

import asyncio

from slipstream_runtime import contract
from tests.support import backends
from tests.support.backends import Held
from tests.support.routers import Running, routing, service, until


async def ready(router: Running) -> int:
    url = f"http://127.0.0.1:{router.management}{contract.READY_PATH}"
    async with router.http.get(url) as response:
        return response.status


async def test_it_is_ready_once_it_knows_where_to_send_requests() -> None:
    async with routing() as router:
        assert await ready(router) == 200


async def test_streams_end_in_time_and_held_requests_are_told() -> None:
    async with backends.running() as (engine,):
        limits = {"concurrency": 1}
        async with routing(engine, limits=limits) as router:
            engine.always = queued = Held(begun=1)
            stream = asyncio.create_task(router.ask(stream=True))
            await until(lambda: queued.waiting == 1)
            waiting = asyncio.create_task(router.ask())
            await until(lambda: router.chat.queued == 1)

            leaving = asyncio.create_task(router.router.drain(linger=0, grace=10))
            told = await waiting
            assert told.status == 503
            assert told.headers["retry-after"] == "1"
            assert await ready(router) == 503
            late = await router.ask()
            assert late.status == 503
            assert late.headers["connection"] == "close"
            queued.release.set()
            assert (await stream).events[-1] == "[DONE]"
            await leaving


async def test_the_longest_drain_of_all_services_counts() -> None:
    listed = [
        service(name="short", model="short"),
        service(name="long", model="long", limits={"drain": 300}),
    ]
    async with routing(services=listed) as router:
        assert router.router.longest_drain == 300
        router.configure(service(name="short", model="short"))
        assert router.router.longest_drain == 0


async def test_new_requests_are_served_while_proxies_still_send_them() -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        leaving = asyncio.create_task(router.router.drain(linger=0.2, grace=1))
        await until(lambda: router.router.front.leaving)
        assert await ready(router) == 503
        reply = await router.ask()
        assert reply.status == 200
        assert reply.headers["connection"] == "close"
        await leaving
        assert (await router.ask()).status == 503


async def test_idle_connections_are_closed() -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        reader, writer = await asyncio.open_connection("127.0.0.1", router.port)
        await until(lambda: router.router._listener.connected == 1)
        await router.router.drain(linger=0, grace=1)
        assert await reader.read() == b""
        writer.close()


async def test_what_is_not_done_in_time_is_told() -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        engine.always = queued = Held(begun=1)
        stream = asyncio.create_task(router.ask(stream=True))
        await until(lambda: queued.waiting == 1)
        engine.always = silent = Held()
        whole = asyncio.create_task(router.ask())
        await until(lambda: silent.waiting == 1)
        await router.router.drain(linger=0, grace=0.05)
        assert (await stream).events[-1]["error"]["code"] == 503
        assert (await whole).status == 503
        await until(lambda: queued.abandoned == silent.abandoned == 1)
