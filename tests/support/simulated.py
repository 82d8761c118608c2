"""Simulated engines as processes, and routers in front of them."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from slipstream_runtime import contract
from slipstream_runtime.router.balancing.endpoints import Address
from tests.support.routers import DEADLINE


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
