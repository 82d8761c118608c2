"""A router process and simulated engines, under requests whose times and lengths are given."""

import asyncio
import contextlib
import io
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import httpx

from dev import waiting
from slipstream_runtime import contract
from slipstream_runtime.simulator import protocol
from slipstream_simulator.recorded import requests
from slipstream_simulator.recorded.requests import Recorded
from tests.support.processes import Router, Simulator

SERVICE = "chat"
MODEL = "m"
_REVISION = "chat-1"
_ROUTER = {
    "namespace": "team",
    "services": [
        {
            "name": SERVICE,
            "model": MODEL,
            "revisions": [{"name": _REVISION, "weight": 100}],
            "activation": "chat-activation",
        }
    ],
}
_START_SECONDS = 120.0


@dataclass(frozen=True)
class Ask:
    """A request: when it is sent, after the first, and its tokens."""

    at: float
    prompt: int
    output: int


@dataclass(frozen=True)
class Engines:
    """The replicas of a service."""

    replicas: int
    config: dict[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """Return the configuration of one engine process."""
        return {"model": {"name": MODEL}, "coldStart": 0.0, **self.config}


class System:
    """A router and its engines."""

    def __init__(self, router: Router, engines: Sequence[Simulator]) -> None:
        self.router = router
        self.engines = engines

    async def play(self, asks: Sequence[Ask]) -> None:
        await play(self.router.api, asks)

    def records(self) -> list[Recorded]:
        """Return all requests that the router recorded."""
        page = httpx.get(
            self.router.management + contract.RECORDS_PATH, params={"most": 100_000}, timeout=60
        )
        return requests.read(page.raise_for_status().text.splitlines())


async def play(url: str, asks: Sequence[Ask]) -> None:
    """Send all requests to a router in time, and wait for their answers."""
    connector = aiohttp.TCPConnector(limit=0)
    loop = asyncio.get_running_loop()
    async with (
        aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout()) as http,
        asyncio.TaskGroup() as group,
    ):
        begin = loop.time()
        for number, ask in enumerate(asks):
            await asyncio.sleep(max(0.0, begin + ask.at - loop.time()))
            group.create_task(_send(http, url, ask, number))


async def _send(http: aiohttp.ClientSession, url: str, ask: Ask, number: int) -> None:
    body = {
        "model": MODEL,
        "prompt": _text(number, ask.prompt),
        "max_tokens": ask.output,
        "stream": True,
        "stream_options": {"include_usage": True},  # otherwise the router estimates the tokens
    }
    async with http.post(
        f"{url}/v1/completions",
        data=io.BytesIO(json.dumps(body).encode()),
        headers={"content-type": "application/json", "x-request-id": f"ask-{number}"},
    ) as response:
        response.raise_for_status()
        await response.read()


def _text(number: int, tokens: int) -> str:
    """Return a prompt of this length that shares no prefix with another one."""
    return f"{number:08d}".ljust(tokens * protocol.CHARACTERS_PER_TOKEN, "x")


@contextlib.contextmanager
def systems(wanted: Sequence[Engines]) -> Iterator[list[System]]:
    """Run a router and engines for each of these, until the end of the block; all are ready."""
    started: list[Router | Simulator] = []
    with tempfile.TemporaryDirectory() as home:
        try:
            fleets = []
            for engines in wanted:
                fleet = []
                for _ in range(engines.replicas):
                    fleet.append(Simulator(_folder(home, started), engines.settings))
                    started.append(fleet[-1])
                fleets.append(fleet)
            for engine in started:
                engine.until_ready()
            routers = []
            for fleet in fleets:
                ports = [(each.port("api"), each.port("management")) for each in fleet]
                routers.append(Router(_folder(home, started), _ROUTER, {_REVISION: ports}))
                started.append(routers[-1])
            for router in routers:
                router.until_ready()
                _until_scraped(router)
            yield [System(*one) for one in zip(routers, fleets, strict=True)]
        finally:
            for process in started:
                process.kill()


def _folder(home: str, started: Sequence[object]) -> Path:
    folder = Path(home, str(len(started)))
    folder.mkdir()
    return folder


def _until_scraped(router: Router) -> None:
    """Wait until each engine has reported its load, and with it its batch size, which is its number of slots."""

    def known() -> bool:
        service = router.get(contract.STATUS_PATH).json()["services"][SERVICE]
        found = service["endpoints"]
        return bool(found) and all(each["waiting"] is not None for each in found)

    waiting.until(known, seconds=_START_SECONDS, what="the router's scrapes", log=router.log)
