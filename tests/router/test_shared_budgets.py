"""Budgets of three router processes in front of a simulated engine, which spend them together."""

import asyncio
import contextlib
import hashlib
import json
import signal
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiohttp
import pytest

from slipstream_runtime import contract
from slipstream_runtime.router.balancing.endpoints import Address
from slipstream_runtime.router.cluster import routers as messages
from slipstream_runtime.web import sockets
from tests.router.test_process import Process, started
from tests.support import backends
from tests.support.routers import CHAT, DEADLINE, routing, service, until

KEY = "sk-shared"
PER_SECOND = 600
BUDGET = PER_SECOND * 60
REQUEST = 60
"""Tokens that one request reserves at most, and so the error of one moment."""


def free_ports(count: int) -> list[int]:
    """Return ports below those that the system gives to other sockets meanwhile."""
    found: list[int] = []
    for port in range(20_000, 30_000):
        with contextlib.suppress(OSError), contextlib.closing(sockets.bind(port)):
            found.append(port)
        if len(found) == count:
            return found
    raise AssertionError


def keep_key(folder: Path) -> Path:
    (folder / "keys" / "chat").mkdir(parents=True)
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    document = {"sha256": digest, "tenant": "a", "tokensPerMinute": BUDGET}
    (folder / "keys" / "chat" / "a").write_text(json.dumps(document))
    (folder / "token").mkdir()
    (folder / "token" / "token").write_text("of-the-namespace")
    return folder


class Spending:
    """Tokens that one tenant used since the first router started."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http
        self.began = time.monotonic()
        self.used = 0
        self.answers = 0

    @property
    def earned(self) -> float:
        return PER_SECOND * (time.monotonic() - self.began)

    async def ask(self, port: int) -> bool:
        body = {
            "model": "m",
            "messages": [{"role": "user", "content": "hi"}],
            "max_tokens": 20,
        }
        async with self._http.post(
            f"http://127.0.0.1:{port}{CHAT}", json=body, headers={"x-api-key": KEY}
        ) as response:
            assert response.status in (200, 429)
            if response.status == 429:
                return False
            self.used += (await response.json())["usage"]["total_tokens"]
            self.answers += 1
            # NB: the clock is read after the answer, so it shows no less than was earned.
            assert self.used <= self.earned + REQUEST
            return True


@contextlib.asynccontextmanager
async def three_routers(folder: Path) -> AsyncIterator[list[tuple[Process, int]]]:
    simulator = folder / "simulator.json"
    simulator.write_text('{"model": {"name": "m"}, "coldStart": 0, "alpha": 0.0005}')
    keep_key(folder)
    ports = free_ports(3)
    async with contextlib.AsyncExitStack() as stack:
        _, engine = await stack.enter_async_context(
            started(contract.SIMULATOR_MODULE, "--config", str(simulator))
        )
        place = {
            "host": "127.0.0.1",
            "port": engine["api"],
            "managementPort": engine["management"],
        }
        config = folder / "router.json"
        config.write_text(json.dumps({"namespace": "team", "services": [service(keys=True)]}))

        async def start(own: int) -> tuple[Process, int]:
            others = [{"host": "127.0.0.1", "managementPort": p} for p in ports if p != own]
            endpoints = folder / f"endpoints-{own}.json"
            found = {"revisions": {"chat-1": [place]}, "routers": unlike(others)}
            endpoints.write_text(json.dumps(found))
            files = ("--config", str(config), "--endpoints", str(endpoints))
            secrets = ("--keys", str(folder / "keys"), "--token", str(folder / "token"))
            process, logged = await stack.enter_async_context(
                started(contract.ROUTER_MODULE, *files, *secrets, management=own)
            )
            return process, logged["api"]

        yield [await start(port) for port in ports]


def unlike(others: Sequence[dict[str, object]]) -> list[dict[str, object]]:
    """Return the entries with ports of the API that differ, because they name the routers."""
    return [{**each, "port": number} for number, each in enumerate(others)]


async def test_three_routers_spend_one_budget_and_one_that_is_cut_off_spends_its_third(
    tmp_path: Path,
) -> None:
    began = time.monotonic()
    async with (
        three_routers(tmp_path) as running,
        aiohttp.ClientSession() as http,
        asyncio.timeout(DEADLINE),
    ):
        spending = Spending(http)
        spending.began = began
        ports = [port for _, port in running]
        while spending.answers < 30 or any([await spending.ask(port) for port in ports]):
            await asyncio.gather(*(spending.ask(port) for port in ports * 3))
        alone = ports[0]
        while spending.used < spending.earned / 3 + 10 * REQUEST:  # by borrowing alone
            await spending.ask(alone)

        for process, _ in running[1:]:
            process.send_signal(signal.SIGSTOP)
        while await spending.ask(alone):
            pass
        cut, used = time.monotonic(), spending.used
        answers = spending.answers
        while spending.answers < answers + 10:
            await spending.ask(alone)
            earned = PER_SECOND / 3 * (time.monotonic() - cut)
            assert spending.used - used <= earned + REQUEST
        for process, _ in running[1:]:
            process.send_signal(signal.SIGCONT)


async def test_a_message_without_the_token_of_the_namespace_moves_no_tokens(
    tmp_path: Path,
) -> None:
    folder = keep_key(tmp_path)
    locked = service(keys=True)
    async with (
        backends.running() as (engine,),
        routing(engine, services=[locked], keys=folder / "keys", token=folder / "token") as router,
    ):
        assert (await router.ask(headers={"x-api-key": KEY}, max_tokens=20)).status == 200
        left = router.chat.budgets.left("a")
        ask = messages.Ask(service="chat", tenant="a", per_minute=BUDGET, need=100, room=0)
        body = ask.model_dump_json(by_alias=True).encode()
        url = f"http://127.0.0.1:{router.management}{messages.LEND_PATH}"
        signed = messages.signature("of-the-namespace", messages.LEND_PATH.encode(), body)
        for wrong in ("", "of-the-namespace", messages.signature("guess", body), "é"):
            headers = {messages.SIGNATURE: wrong}
            async with router.http.post(url, data=body, headers=headers) as response:
                assert response.status == 401
        assert router.chat.budgets.left("a") >= left
        async with router.http.post(
            url, data=body, headers={messages.SIGNATURE: signed}
        ) as response:
            assert (await response.json())["lent"] == 100
        assert router.chat.budgets.left("a") <= BUDGET - 100


@pytest.mark.parametrize("token", ["of-the-namespace", "of-another"])
async def test_tokens_of_a_router_with_another_token_are_not_taken(
    tmp_path: Path, token: str
) -> None:
    folder = keep_key(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "token").write_text(token)
    options = {"services": [service(keys=True)], "keys": folder / "keys"}
    async with (
        backends.running() as (engine,),
        routing(engine, token=folder / "token", **options) as here,
        routing(engine, token=tmp_path / "other", **options) as there,
    ):
        key = {"x-api-key": KEY}
        assert (await there.ask(headers=key, max_tokens=20)).status == 200
        assert (await here.ask(headers=key, max_tokens=20)).status == 200
        for router, other in ((here, there), (there, here)):
            address = Address("other", "127.0.0.1", management_port=other.management)
            router.router.update_routers([address])
        lent = token == "of-the-namespace"
        more_than_its_part = await here.ask(headers=key, max_tokens=BUDGET // 2)
        assert more_than_its_part.status == (200 if lent else 429)
        await until(here.settled)
