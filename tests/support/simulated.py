"""Simulated engines as processes, and routers in front of them."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp

from slipstream_runtime import contract
from slipstream_runtime.router.balancing.endpoints import Address
from tests.support.routers import DEADLINE, Running


class Simulated:
    """One engine."""

    def __init__(self, name: str, ports: tuple[int, int], http: aiohttp.ClientSession) -> None:
        self.address = Address(name, "127.0.0.1", *ports)
        self._management = ports[1]
        self._http = http

    async def get(self, path: str, **query: str) -> tuple[int, bytes]:
        url = f"http://127.0.0.1:{self._management}{path}"
        async with self._http.get(url, params=query) as response:
            return response.status, await response.read()

    async def records(self, **query: str) -> list[dict[str, Any]]:
        status, body = await self.get(contract.RECORDS_PATH, **query)
        assert status == 200
        return [json.loads(line) for line in body.splitlines()]

    async def until_ready(self) -> None:
        async with asyncio.timeout(DEADLINE):
            while (await self.get(contract.READY_PATH))[0] != 200:  # noqa: ASYNC110 (a process)
                await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def simulated(folder: Path, name: str, **settings: Any) -> AsyncIterator[Simulated]:
    """Run an engine that is ready."""
    file = folder / f"{name}.json"
    file.write_text(
        json.dumps({"model": {"name": name}, "coldStart": 0, "lingerSeconds": 0, **settings})
    )
    command = (sys.executable, "-m", "slipstream_runtime.simulator", "--config", str(file))
    ports = ("--api-port", "0", "--management-port", "0")
    process = await asyncio.create_subprocess_exec(*command, *ports, stderr=asyncio.subprocess.PIPE)
    try:
        assert process.stderr is not None
        async with asyncio.timeout(DEADLINE):
            listening = json.loads(await process.stderr.readline())
        async with aiohttp.ClientSession() as http:
            engine = Simulated(name, (listening["api"], listening["management"]), http)
            await engine.until_ready()
            yield engine
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def seconds(router: Running, *engines: Simulated, request: str) -> Mapping[str, float]:
    """Return the seconds of a request by cause, of router and engine together."""
    [record] = await router.records(request=request)
    found: dict[str, float] = dict(record["seconds"])
    for engine in engines:
        for computed in await engine.records(request=request):
            assert computed["request"] == record["request"]
            for cause, value in computed["seconds"].items():
                if cause != "engine":
                    found[cause] = found.get(cause, 0.0) + value
            waited = found["first"] + found["stream"]
            found["network"] = max(0.0, waited - sum(computed["seconds"].values()))
            found["first"] = found["stream"] = 0.0
    return found
