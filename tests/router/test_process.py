"""Router as a process: files instead of a cluster, a simulated engine, SIGTERM."""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from slipstream_runtime import contract
from tests.support import backends
from tests.support.backends import Backend, Held
from tests.support.routers import CHAT, DEADLINE, service, until

Process = asyncio.subprocess.Process


@contextlib.asynccontextmanager
async def started(
    module: str, *options: str, management: int = 0
) -> AsyncIterator[tuple[Process, dict[str, Any]]]:
    """Start a process of the runtime; return it with the ports that it logs."""
    ports = ("--api-port", "0", "--management-port", str(management))
    command = (sys.executable, "-m", module, *options, *ports)
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    try:
        async with asyncio.timeout(DEADLINE):
            while (line := json.loads(await process.stderr.readline()))["event"] != "listening":
                pass
        yield process, line
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


def options(folder: Path, *, port: int, management: int) -> tuple[str, ...]:
    config, endpoints = folder / "router.json", folder / "endpoints.json"
    config.write_text(json.dumps({"namespace": "team", "services": [service()]}))
    place = {"host": "127.0.0.1", "port": port, "managementPort": management}
    endpoints.write_text(json.dumps({"revisions": {"chat-1": [place]}}))
    return ("--config", str(config), "--endpoints", str(endpoints))


def beside(backend: Backend, folder: Path) -> tuple[str, ...]:
    return options(folder, port=backend.port, management=backend.port)


async def test_a_simulated_engine_answers_through_it(tmp_path: Path) -> None:
    settings = tmp_path / "simulator.json"
    settings.write_text('{"model": {"name": "m"}, "coldStart": 0, "alpha": 0.001}')
    async with started(contract.SIMULATOR_MODULE, "--config", str(settings)) as (_, engine):
        files = options(tmp_path, port=engine["api"], management=engine["management"])
        async with (
            started(contract.ROUTER_MODULE, *files) as (_, router),
            aiohttp.ClientSession() as http,
        ):
            url = f"http://127.0.0.1:{router['api']}{CHAT}"
            body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
            async with http.post(url, json=body) as response:
                assert (await response.json())["usage"]["completion_tokens"] == 5
            async with http.post(url, json={**body, "stream": True}) as response:
                assert (await response.text()).endswith("data: [DONE]\n\n")


async def test_sigterm_ends_it_once_its_streams_are_done(tmp_path: Path) -> None:
    async with backends.running() as (engine,):
        engine.always = held = Held(begun=1)
        files = (*beside(engine, tmp_path), "--linger", "0", "--grace", "10")
        async with (
            started(contract.ROUTER_MODULE, *files) as (process, ports),
            aiohttp.ClientSession() as http,
        ):
            url = f"http://127.0.0.1:{ports['api']}{CHAT}"
            async with http.post(url, json={"model": "m", "stream": True}) as response:
                await until(lambda: held.waiting == 1)
                process.send_signal(signal.SIGTERM)
                management = f"http://127.0.0.1:{ports['management']}{contract.READY_PATH}"

                async def unready() -> bool:
                    async with http.get(management) as probe:
                        return probe.status == 503

                while not await unready():
                    pass
                held.release.set()
                assert (await response.text()).endswith("data: [DONE]\n\n")
            async with asyncio.timeout(DEADLINE):
                assert await process.wait() == 0


async def test_a_file_that_is_wrong_ends_it_with_the_reason(tmp_path: Path) -> None:
    async with backends.running() as (engine,):
        files = beside(engine, tmp_path)
    (tmp_path / "router.json").write_text('{"namespace": "team", "services": [{"name": "chat"}]}')
    command = (sys.executable, "-m", contract.ROUTER_MODULE, *files, "--api-port", "0")
    process = await asyncio.create_subprocess_exec(
        *command, "--management-port", "0", stderr=asyncio.subprocess.PIPE
    )
    _, error = await process.communicate()
    assert process.returncode == 2
    assert b"router.json: services.0.model" in error
