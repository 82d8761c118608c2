"""Work of engines for clients that left: it counts against the budget as far as it is known or was reserved."""

import asyncio
import hashlib
import json
from pathlib import Path

import aiohttp
import pytest

from dev import metrics
from slipstream_runtime import contract
from tests.router.test_process import options, started
from tests.support import backends
from tests.support.backends import Held, Peer, Received
from tests.support.routers import CHAT, Reply, Running, routing, service, until

SECRET = "sk-leaves"
BUDGET = 5_000
REQUEST = 4_500
LOCKED = service(keys=True)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    (tmp_path / "chat").mkdir()
    document = {"sha256": hashlib.sha256(SECRET.encode()).hexdigest(), "tokensPerMinute": BUDGET}
    (tmp_path / "chat" / "a").write_text(json.dumps(document))
    return tmp_path


async def ask(router: Running, **fields: object) -> Reply:
    fields = {"max_tokens": REQUEST, **fields}
    return await router.ask(headers={"authorization": f"Bearer {SECRET}"}, **fields)


async def leave(router: Running, engine_has_it: Held, **fields: object) -> None:
    """Send a request, and leave once the engine has it."""
    task = asyncio.create_task(ask(router, **fields))
    await until(lambda: engine_has_it.waiting == 1)
    task.cancel()
    await until(lambda: engine_has_it.waiting == 0 and router.settled())


def used(router: Running) -> float:
    left: float = router.chat.budgets.left("a")
    return BUDGET - left


@pytest.mark.parametrize("stream", [False, True])
async def test_two_hundred_requests_whose_clients_leave_do_not_run_on_the_budget_of_one(
    keys: Path, stream: bool
) -> None:
    async with (
        backends.running() as (engine,),
        routing(engine, services=[LOCKED], keys=keys) as router,
    ):
        engine.always = held = Held()
        await leave(router, held, stream=stream)
        for _ in range(199):
            assert (await ask(router, stream=stream)).status == 429
        assert len(engine.received) == 1


async def test_a_request_whose_client_leaves_in_the_queue_costs_nothing(keys: Path) -> None:
    async with routing(services=[LOCKED], keys=keys) as router:
        task = asyncio.create_task(ask(router))
        await until(lambda: router.chat.queued == 1)
        task.cancel()
        await until(router.settled)
        assert used(router) == 0


async def test_with_a_known_pace_the_time_in_the_engine_counts(keys: Path) -> None:
    async with (
        backends.running() as (engine,),
        routing(engine, services=[LOCKED], keys=keys) as router,
    ):
        router.chat.pace.note(prompt=1, output=100, answers=1, seconds=1_000_000)
        engine.always = held = Held()
        await leave(router, held)
        assert 1 < used(router) < 100

        router.chat.pace.note(prompt=1, output=100, answers=1, seconds=1e-9)
        await leave(router, held, max_tokens=1_000)
        assert 900 < used(router) < 1_200


async def test_an_answer_that_is_cut_at_the_services_timeout_counts(keys: Path) -> None:
    late = service(keys=True, limits={"timeout": 0.2})
    async with (
        backends.running() as (engine,),
        routing(engine, services=[late], keys=keys) as router,
    ):
        engine.always = Held()
        assert (await ask(router)).status == 504
        assert used(router) > REQUEST * 0.9


async def test_an_answer_that_breaks_off_by_the_engines_fault_costs_nothing(keys: Path) -> None:
    async with (
        backends.running() as (engine,),
        routing(engine, services=[LOCKED], keys=keys) as router,
    ):
        engine.always = backends.die
        assert (await ask(router)).status == 502
        assert used(router) == 0


async def test_a_stream_counts_the_tokens_of_events_that_an_engine_merged(keys: Path) -> None:
    words = "word " * 800

    async def merging(peer: Peer, received: Received) -> None:
        await peer.stream()
        await peer.tokens(2)
        await peer.event({"choices": [{"delta": {"content": words}}]})
        await peer.left()

    async with (
        backends.running() as (engine,),
        routing(engine, services=[LOCKED], keys=keys) as router,
    ):
        engine.always = merging
        body = {"model": "m", "messages": [], "stream": True, "max_tokens": REQUEST}
        url, key = f"http://127.0.0.1:{router.port}{CHAT}", {"x-api-key": SECRET}
        async with router.http.post(url, json=body, headers=key) as response:
            async for line in response.content:
                if words.encode() in line:
                    break
            response.close()
        await until(router.settled)
        assert 600 < used(router) < 1_200


async def test_a_real_engine_generates_no_more_than_the_budget_for_clients_that_leave(
    keys: Path, tmp_path: Path
) -> None:
    settings = tmp_path / "simulator.json"
    settings.write_text('{"model": {"name": "m"}, "coldStart": 0, "alpha": 0.0005}')
    async with started(contract.SIMULATOR_MODULE, "--config", str(settings)) as (_, engine):
        files = options(tmp_path, port=engine["api"], management=engine["management"])
        (tmp_path / "router.json").write_text(
            json.dumps({"namespace": "team", "services": [LOCKED]})
        )
        async with (
            started(contract.ROUTER_MODULE, *files, "--keys", str(keys)) as (_, router),
            aiohttp.ClientSession() as http,
        ):
            url = f"http://127.0.0.1:{router['api']}{CHAT}"
            body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
            key = {"x-api-key": SECRET}

            async def send(**fields: object) -> int:
                async with http.post(url, json={**body, **fields}, headers=key) as response:
                    await response.read()
                    return response.status

            began = asyncio.get_running_loop().time()
            assert await send(max_tokens=50) == 200
            run = 0
            for number in range(200):
                try:
                    async with asyncio.timeout(0.1):
                        refused = await send(max_tokens=2_000, stream=number % 2 == 0) == 429
                except TimeoutError:
                    run += 1
                    continue
                if refused:
                    break
            earned = BUDGET / 60 * (asyncio.get_running_loop().time() - began)
            page = f"http://127.0.0.1:{engine['management']}{contract.METRICS_PATH}"
            async with http.get(page) as response:
                generated = metrics.total(await response.text(), contract.GENERATION_TOKENS)
            assert 1 < run < 199
            assert generated <= BUDGET + earned
