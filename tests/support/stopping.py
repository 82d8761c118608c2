"""SIGTERM to a real engine with requests in flight: what each client and the kubelet saw."""

import asyncio
import dataclasses
import json
import random
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.support.engines import NAME, Engine, config
from tests.support.processes import HANG_SECONDS

STREAMS = 4
EXIT_SECONDS = 8
"""After the drain's limit: what the supervisor gives aborted requests and vLLM to leave."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """One engine's end."""

    drain_seconds: int
    exit_code: int
    seconds: float
    """From SIGTERM to the exit."""
    complete: int
    """Answers that ended as they should: a stream with [DONE], another with status 200."""
    told: int
    """Answers that were cut, and said so: an SSE error without [DONE], or status 503."""
    silent: int
    """Answers that were cut without a word: always wrong."""
    refused: bool
    """Whether a request after SIGTERM got 503 with Retry-After, or found the port closed."""

    @property
    def lossless(self) -> bool:
        """Whether every client was answered or told, and the engine ended by itself."""
        return self.exit_code == 0 and self.silent == 0 and self.refused

    @property
    def clean(self) -> bool:
        """Whether all was as promised, on a machine that does nothing else."""
        return self.lossless and self.seconds <= self.drain_seconds + EXIT_SECONDS


def run(model: Path, *, dice: random.Random) -> Trial:
    """Start an engine, put it under load, stop it at a random moment."""
    drain_seconds = dice.choice((0, 1, 5))
    with _engine(model, drain_seconds) as engine:
        return asyncio.run(_stop(engine, drain_seconds, dice=dice))


@contextmanager
def _engine(model: Path, drain_seconds: int) -> Iterator[Engine]:
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(Path(folder), config(f"file://{model}", drainSeconds=drain_seconds))
        try:
            engine.until_ready()
            yield engine
        finally:
            engine.kill()


async def _stop(engine: Engine, drain_seconds: int, *, dice: random.Random) -> Trial:
    async with httpx.AsyncClient(base_url=engine.api, timeout=HANG_SECONDS) as client:
        begun = [asyncio.Event() for _ in range(STREAMS)]
        clients = [
            asyncio.create_task(_stream(client, event, tokens=dice.choice((40, 300, 900))))
            for event in begun
        ]
        clients.append(asyncio.create_task(_whole(client, tokens=dice.choice((40, 900)))))
        await asyncio.gather(*(event.wait() for event in begun))
        await asyncio.sleep(dice.uniform(0, 0.3))
        started = time.monotonic()
        engine.process.send_signal(signal.SIGTERM)
        exit_code = asyncio.create_task(asyncio.to_thread(engine.process.wait, HANG_SECONDS))
        refused = await _refused(client, engine)
        saw = await asyncio.gather(*clients)
    return Trial(
        drain_seconds=drain_seconds,
        exit_code=await exit_code,
        seconds=time.monotonic() - started,
        complete=saw.count("complete"),
        told=saw.count("told"),
        silent=saw.count("silent"),
        refused=refused,
    )


def _body(tokens: int, **more: Any) -> dict[str, Any]:
    return {"model": NAME, "prompt": "hello", "max_tokens": tokens, "ignore_eos": True, **more}


async def _stream(client: httpx.AsyncClient, begun: asyncio.Event, *, tokens: int) -> str:
    events: list[str] = []
    try:
        async with client.stream(
            "POST", "/v1/completions", json=_body(tokens, stream=True)
        ) as response:
            async for line in response.aiter_lines():
                if line:
                    events.append(line.removeprefix("data: "))
                    begun.set()
    except httpx.HTTPError:
        return "silent"
    if events[-1] == "[DONE]":
        return "complete"
    return "told" if json.loads(events[-1]).get("error", {}).get("code") == 503 else "silent"


async def _whole(client: httpx.AsyncClient, *, tokens: int) -> str:
    try:
        response = await client.post("/v1/completions", json=_body(tokens))
    except httpx.HTTPError:
        return "silent"
    if response.status_code == 200 and response.json()["usage"]["completion_tokens"] == tokens:
        return "complete"
    return "told" if response.status_code == 503 else "silent"


async def _refused(client: httpx.AsyncClient, engine: Engine) -> bool:
    """Ask until the engine has heard of its end; the last answer tells."""
    while True:
        try:
            response = await client.post("/v1/completions", json=_body(1))
        except httpx.TransportError:
            return engine.process.poll() is not None or await _leaves(engine)
        if response.status_code != 200:
            return response.status_code == 503 and "retry-after" in response.headers


async def _leaves(engine: Engine) -> bool:
    """Whether a closed port is an engine that ends, not one that has lost its way."""
    return await asyncio.to_thread(engine.process.wait, HANG_SECONDS) == 0
