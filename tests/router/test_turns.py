"""Tenants that share a service: slots and the queue go to them in turn, whatever one of them sends."""

import asyncio
import contextlib
import json
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from slipstream_runtime import contract
from tests.router.test_process import started
from tests.support import backends
from tests.support.backends import Held
from tests.support.routers import CHAT, Reply, Running, routing, service, until

TENANTS = ("a", "b", "c")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Return a folder with the key `sk-NAME` of each tenant."""
    (tmp_path / "chat").mkdir()
    for tenant in TENANTS:
        (tmp_path / "chat" / tenant).write_text(f"sk-{tenant}")
    return tmp_path


def keyed(**limits: Any) -> list[dict[str, Any]]:
    return [service(keys=True, limits=limits)]


def bearer(tenant: str) -> dict[str, str]:
    return {"authorization": f"Bearer sk-{tenant}"}


async def ask_all(router: Running, tenants: str, **fields: Any) -> list["asyncio.Task[Reply]"]:
    """Send a request of each tenant, each once the one before is admitted."""
    tasks = []
    before = router.router.front.in_flight
    for tenant in tenants:
        asking = router.ask(headers=bearer(tenant), user=tenant, **fields)
        tasks.append(asyncio.create_task(asking))
        await until(lambda: router.router.front.in_flight == before + len(tasks))
    return tasks


async def test_a_slot_that_becomes_free_goes_to_the_tenant_with_fewest(keys: Path) -> None:
    async with (
        backends.running() as (engine,),
        routing(engine, services=keyed(concurrency=1), keys=keys) as router,
    ):
        engine.always = held = Held()
        tasks = await ask_all(router, "aaaaabbc")
        await until(lambda: held.waiting == 1)
        held.release.set()
        assert {reply.status for reply in await asyncio.gather(*tasks)} == {200}
        order = "".join(received.content["user"] for received in engine.received)
        assert order == "abcabaaa"


async def test_a_tenant_that_fills_the_queue_takes_no_request_of_others(keys: Path) -> None:
    async with (
        backends.running() as (engine,),
        routing(engine, services=keyed(concurrency=1, queue=4), keys=keys) as router,
    ):
        engine.always = held = Held()
        flood = await ask_all(router, "aaaaa")
        [refused] = await asyncio.gather(*await ask_all_refused(router, "a"))
        assert refused.status == 429
        others = [asyncio.create_task(router.ask(headers=bearer(tenant))) for tenant in ("b", "c")]
        assert [(await each).status for each in flood[3:]] == [429, 429]
        held.release.set()
        assert {reply.status for reply in await asyncio.gather(*flood[:3], *others)} == {200}
        name = "slipstream_router_refused_requests_total"
        assert await router.metric(name, reason="shed") == 2


async def ask_all_refused(router: Running, tenants: str) -> list["asyncio.Task[Reply]"]:
    return [asyncio.create_task(router.ask(headers=bearer(tenant))) for tenant in tenants]


async def test_a_tenant_alone_has_all_slots_and_leaves_one_while_another_is_there(
    keys: Path,
) -> None:
    async with (
        backends.running() as (engine,),
        routing(engine, services=keyed(concurrency=4), keys=keys) as router,
    ):
        engine.always = held = Held()
        alone = await ask_all(router, "aaaa")
        await until(lambda: held.waiting == 4)
        held.release.set()
        await asyncio.gather(*alone)
        assert (await router.ask(headers=bearer("b"))).status == 200

        engine.always = held = Held()
        flood = await ask_all(router, "aaaa")
        await until(lambda: held.waiting == 3)
        assert router.chat.queued == 1
        other = asyncio.create_task(router.ask(headers=bearer("b")))
        await until(lambda: held.waiting == 4)
        held.release.set()
        assert {reply.status for reply in await asyncio.gather(*flood, other)} == {200}


async def test_a_request_for_more_answers_than_its_share_holds_nobody_up(keys: Path) -> None:
    async with (
        backends.running() as (engine,),
        routing(engine, services=keyed(concurrency=4), keys=keys) as router,
    ):
        held, longer = Held(), Held()
        engine.script, engine.always = [longer, held], held
        running = await ask_all(router, "ab")
        [large] = await ask_all(router, "a", n=4)
        await until(lambda: router.chat.queued == 1)
        held.release.set()
        for tenant in "bcb":
            assert (await router.ask(headers=bearer(tenant))).status == 200
        assert router.chat.queued == 1
        longer.release.set()
        assert {reply.status for reply in await asyncio.gather(*running, large)} == {200}


async def test_a_request_for_some_answers_gets_its_slots_although_others_always_wait(
    keys: Path,
) -> None:
    async with (
        backends.running() as (engine,),
        routing(engine, services=keyed(concurrency=4), keys=keys) as router,
    ):
        turns = [Held() for _ in range(8)]
        engine.script = [*turns]
        flood = await ask_all(router, "bbbb")
        [some] = await ask_all(router, "a", n=2)
        flood += await ask_all(router, "bbbb")
        turns[0].release.set()
        await until(lambda: router.chat.in_flight == 8)
        assert len(engine.received) == 4
        turns[1].release.set()
        await until(lambda: len(engine.received) == 5)
        assert engine.received[4].content["n"] == 2
        for each in turns:
            each.release.set()
        assert {reply.status for reply in await asyncio.gather(*flood, some)} == {200}


async def test_without_keys_addresses_take_turns() -> None:
    async with (
        backends.running() as (engine,),
        routing(engine, limits={"concurrency": 1}) as router,
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
        ) as elsewhere,
    ):
        engine.always = held = Held()
        flood = [asyncio.create_task(router.ask(user="a")) for _ in range(5)]
        await until(lambda: router.chat.queued == 4)
        body = {"model": "m", "user": "b"}
        url = f"http://127.0.0.1:{router.port}{CHAT}"
        other = asyncio.create_task(elsewhere.post(url, json=body))
        await until(lambda: router.chat.queued == 5)
        held.release.set()
        assert (await other).status == 200
        await asyncio.gather(*flood)
        assert [received.content["user"] for received in engine.received][1] == "b"


ENGINE = {"model": {"name": "m"}, "coldStart": 0, "alpha": 0.02, "maxSequences": 8}


@contextlib.asynccontextmanager
async def simulated(folder: Path, keys: Path) -> AsyncIterator[str]:
    """Run a router as a process in front of a simulated engine; yield its URL for chats."""
    settings, endpoints = folder / "engine.json", folder / "endpoints.json"
    settings.write_text(json.dumps(ENGINE))
    (folder / "router.json").write_text(
        json.dumps({"namespace": "team", "services": keyed(concurrency=8, queue=12)})
    )
    command = (contract.SIMULATOR_MODULE, "--config", str(settings))
    async with started(*command) as (_, engine):
        place = {"host": "127.0.0.1", "port": engine["api"], "managementPort": engine["management"]}
        endpoints.write_text(json.dumps({"revisions": {"chat-1": [place]}}))
        files = ("--config", folder / "router.json", "--endpoints", endpoints, "--keys", keys)
        async with started(contract.ROUTER_MODULE, *map(str, files)) as (_, router):
            yield f"http://127.0.0.1:{router['api']}{CHAT}"


async def ttft(http: aiohttp.ClientSession, url: str, tenant: str, *, tokens: int) -> float | None:
    """Return the seconds to the first token of a stream that is read to its end; None if it is refused."""
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": tokens,
        "stream": True,
    }
    began = time.perf_counter()
    async with http.post(url, json=body, headers=bearer(tenant)) as response:
        if response.status != 200:
            assert response.status == 429
            return None
        first = await response.content.readany()
        seconds = time.perf_counter() - began
        assert (first + await response.read()).endswith(b"data: [DONE]\n\n")
        return seconds


async def test_a_tenant_that_floods_the_engines_does_not_hold_up_another(
    tmp_path: Path, keys: Path
) -> None:
    """The bar of `make bench-borders`: twice the quiet p99, and 250 ms; no request of the other fails."""
    async with (
        simulated(tmp_path, keys) as url,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
    ):

        async def measured(count: int) -> float:
            found = [await ttft(http, url, "b", tokens=4) for _ in range(count)]
            assert None not in found
            return statistics.quantiles([each or 0 for each in found], n=100)[98]

        async def flood() -> None:
            while True:
                await ttft(http, url, "a", tokens=200)

        quiet = await measured(40)
        crowd = [asyncio.create_task(flood()) for _ in range(20)]
        try:
            loud = await measured(40)
        finally:
            for each in crowd:
                each.cancel()
            await asyncio.gather(*crowd, return_exceptions=True)
        assert loud <= 2 * quiet + 0.25
