"""What an engine that cannot work does: it ends, says why, and never looks healthy meanwhile."""

import asyncio
import contextlib
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from slipstream_runtime import contract
from slipstream_runtime.machine import hardware
from tests.support.engines import NAME, Engine, config, serving, write_model

STALL_SECONDS = 4
ENDLESS: dict[str, Any] = {
    "model": NAME,
    "prompt": "hello",
    "max_tokens": 900,
    "ignore_eos": True,
    "stream": True,
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A ready engine that is given little patience."""
    folder, model = tmp_path_factory.mktemp("engine"), tmp_path_factory.mktemp("model")
    write_model(model)
    with serving(folder, config(f"file://{model}", stallSeconds=STALL_SECONDS)) as engine:
        yield engine


async def _stream(client: httpx.AsyncClient, begun: asyncio.Event) -> list[str]:
    async with client.stream("POST", "/v1/completions", json=ENDLESS) as response:
        lines = []
        async for line in response.aiter_lines():
            begun.set()
            lines.append(line)
        return lines


def test_a_busy_engine_is_not_taken_for_a_hanging_one(engine: Engine) -> None:
    async def main() -> list[list[str]]:
        async with httpx.AsyncClient(base_url=engine.api, timeout=120) as client:
            return await asyncio.gather(*(_stream(client, asyncio.Event()) for _ in range(16)))

    assert all("data: [DONE]" in lines for lines in asyncio.run(main()))
    assert engine.get(contract.LIVE_PATH).status_code == 200


async def test_a_structure_that_takes_the_compiler_long_fails_alone(engine: Engine) -> None:
    """Beyond the patience of the engine, which used to be restarted."""
    parts = [
        {
            "type": "object",
            "properties": {
                f"p{one}{two}": {"type": "string", "minLength": one, "maxLength": 9000}
                for two in range(3)
            },
        }
        for one in range(250)
    ]
    costly = {"json": {"anyOf": parts}}
    body = {"model": NAME, "prompt": "hi", "max_tokens": 4}
    async with httpx.AsyncClient(base_url=engine.api, timeout=60) as client:

        async def answer(structure: dict[str, Any]) -> httpx.Response:
            return await client.post(
                "/v1/completions", json={**body, "structured_outputs": structure}
            )

        attack = asyncio.create_task(answer(costly))
        for choice in range(5):
            assert (await answer({"choice": [f"a{choice}", "b"]})).status_code == 200
        assert not attack.done()
        assert (await attack).status_code == 400
    assert engine.get(contract.LIVE_PATH).status_code == 200


async def test_an_engine_that_goes_on_after_a_stall_ends_the_requests_and_not_itself(
    engine: Engine,
) -> None:
    core = _core(engine)
    async with httpx.AsyncClient(base_url=engine.api, timeout=60) as client:
        begun = asyncio.Event()
        stream = asyncio.create_task(_stream(client, begun))
        await begun.wait()
        core.suspend()
        lines = [line for line in await stream if line]
        core.resume()
        assert json.loads(lines[-1].removeprefix("data: "))["error"]["code"] == 504
        body = {"model": NAME, "prompt": "hi", "max_tokens": 4}
        assert (await client.post("/v1/completions", json=body)).status_code == 200
    assert engine.get(contract.LIVE_PATH).status_code == 200


def test_an_engine_that_hangs_ends_by_itself_and_says_so(engine: Engine) -> None:
    core = _core(engine)

    async def main() -> list[str]:
        begun = asyncio.Event()
        async with httpx.AsyncClient(base_url=engine.api, timeout=60) as client:
            stream = asyncio.create_task(_stream(client, begun))
            await begun.wait()
            os.kill(core.pid, signal.SIGSTOP)
            return await stream

    lines = [line for line in asyncio.run(main()) if line]
    assert "data: [DONE]" not in lines
    assert json.loads(lines[-1].removeprefix("data: "))["error"]["code"] == 504
    assert engine.exit_code() == 1
    assert "the engine hangs: 1 requests made no progress" in engine.termination_log.read_text()
    assert not core.is_running() or core.status() == psutil.STATUS_ZOMBIE


def test_a_model_without_a_kernel_here_is_never_ready_and_tells_vllms_own_reason(
    tmp_path: Path,
) -> None:
    if hardware.cpu_flags() & {"avx512f"}:
        pytest.skip("this CPU has the kernel for W4A16")
    quantize = pytest.importorskip("dev.models.quantize")
    quantize.write(Path("dev/models/target").resolve(), tmp_path / "w4a16", scheme="W4A16")
    engine = Engine(tmp_path, config(f"file://{tmp_path / 'w4a16'}"))
    assert engine.exit_code() == 1
    assert "cpu_gemm_wna16" in engine.termination_log.read_text()
    assert "ready" not in [entry["phase"] for entry in engine.events("phase")]


def test_a_worker_that_is_killed_is_named_as_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, shared = tmp_path / "model", tmp_path / "shm"
    model.mkdir()
    write_model(model)
    shared.mkdir()
    (shared / "psm_of_a_dead_engine").write_bytes(b"left")
    monkeypatch.setenv(contract.SHARED_MEMORY_ENV, str(shared))
    engine = Engine(tmp_path, config(f"file://{model}", tensorParallel=2))
    try:
        engine.until_ready()
        assert not list(shared.iterdir())
        workers = _workers(engine)
        assert len(workers) == 2

        async def main() -> None:
            begun = asyncio.Event()
            async with httpx.AsyncClient(base_url=engine.api, timeout=120) as client:
                stream = asyncio.create_task(_stream(client, begun))
                await begun.wait()
                os.kill(workers[1].pid, signal.SIGKILL)
                with contextlib.suppress(httpx.HTTPError):
                    await stream

        asyncio.run(main())
        assert engine.exit_code() == 1
    finally:
        engine.kill()
    reason = engine.termination_log.read_text()
    assert re.search(r"the engine died: VllmWorker-\d was killed", reason), reason
    assert "limits.memory" in reason or "memory did not run out" in reason
    assert "cancelled" not in reason


def _core(engine: Engine) -> psutil.Process:
    children = psutil.Process(engine.process.pid).children()
    (core,) = (child for child in children if "EngineCore" in " ".join(child.cmdline()))
    return core


def _workers(engine: Engine) -> list[psutil.Process]:
    """Processes of the engine core that compute."""
    core = _core(engine)
    return [
        process
        for process in core.children()
        if "resource_tracker" not in " ".join(process.cmdline())
    ]
