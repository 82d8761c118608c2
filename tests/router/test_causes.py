"""Known causes of slow requests, injected at real engine processes behind a router, at the same time.

`test_recording` injects the causes that lie in the router.
"""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from slipstream_runtime import contract
from slipstream_runtime.simulator.model import Parameters
from slipstream_simulator.recorded import causes, requests
from tests.support.routers import Running, routing, service, until
from tests.support.simulated import Simulated, simulated

STEP = 0.002
TOKEN = 0.0001
"""Seconds of a step, and of a prompt's token in it."""
QUICK = {"alpha": STEP, "beta": 0.0, "gamma": 0.0, "delta": TOKEN}
CHUNK = Parameters().max_batched_tokens
ENGINES: Mapping[str, dict[str, Any]] = {
    "roomy": {},
    "single": {"maxSequences": 1},
    "small": {"kvTokens": 290},
    "caching": {"prefixTokens": 1_200},
}
NUMBER = 6
"""Requests of each cause."""


class Fleet:
    """Router with one engine for each service."""

    def __init__(self, router: Running, engines: Mapping[str, Simulated]) -> None:
        self.router = router
        self.engines = engines

    async def ask(self, model: str, name: str, *, prompt: str | int = 8, output: int = 1) -> None:
        """Ask with this prompt, or one of this number of tokens."""
        text = prompt if isinstance(prompt, str) else (f"{name} " * prompt)[: 4 * prompt]
        reply = await self.router.ask(
            "/v1/completions",
            headers={"x-request-id": name},
            raw=json.dumps({"model": model, "prompt": text, "max_tokens": output}).encode(),
        )
        assert reply.status == 200, reply.body

    async def behind(self, model: str, name: str, **first: int) -> "asyncio.Future[None]":
        """Ask with another request, and return once it is in the engine's batch."""
        asking = asyncio.ensure_future(self.ask(model, f"{name}-before", **first))
        while True:
            _, body = await self.engines[model].get(contract.STATUS_PATH)
            if json.loads(body)["running"]:
                return asking

    async def cause(self, model: str, name: str) -> str:
        """Return the cause of most of a request's time, as `slipstream why` finds it."""
        engine = self.engines[model]
        routed = requests.read(map(json.dumps, await self.router.records(request=name)))
        computed = requests.read_engine(
            map(json.dumps, await engine.records(request=name)), replica=engine.address.name
        )
        [one] = requests.join(routed, computed)
        assert one.engine is not None
        found = causes.until_end(one)
        assert sum(found.values()) == pytest.approx(one.e2e)
        return max(found, key=lambda each: found[each])


async def _prefill(fleet: Fleet, name: str) -> None:
    await fleet.ask("roomy", name, prompt=1000)


async def _others_prefill(fleet: Fleet, name: str) -> None:
    """A short request arrives while the engine reads a long prompt."""
    before = await fleet.behind("roomy", name, prompt=2 * CHUNK)
    await fleet.ask("roomy", name)
    await before


async def _decode(fleet: Fleet, name: str) -> None:
    await fleet.ask("roomy", name, output=60)


async def _queue(fleet: Fleet, name: str) -> None:
    before = await fleet.behind("single", name, output=100)
    await fleet.ask("single", name)
    await before


async def _preemption(fleet: Fleet, name: str) -> None:
    """Two requests grow until the KV cache is too small, and the newer one gives way."""
    before = await fleet.behind("small", name, prompt=100, output=180)
    await fleet.ask("small", name, prompt=100, output=60)
    await before


async def _cold_prefix(fleet: Fleet, name: str) -> None:
    """A conversation goes on after another one took its place in the engine's cache."""
    text = f"{name} tells a long story. " * 160
    await fleet.ask("caching", f"{name}-before", prompt=text)
    await fleet.ask("caching", f"{name}-between", prompt=text[::-1])
    await fleet.ask("caching", name, prompt=text)


CAUSES: Mapping[str, Mapping[str, Callable[[Fleet, str], Awaitable[None]]]] = {
    "roomy": {"prefill": _prefill, "others_prefill": _others_prefill, "decode": _decode},
    "single": {"queue": _queue},
    "small": {"preemption": _preemption},
    "caching": {"cold_prefix": _cold_prefix},
}


@contextlib.asynccontextmanager
async def _running(folder: Path) -> AsyncIterator[Fleet]:
    services = [
        service(name=name, model=name, revisions=[{"name": f"{name}-1", "weight": 100}])
        for name in ENGINES
    ]
    async with contextlib.AsyncExitStack() as stack:
        engines = dict(
            zip(
                ENGINES,
                await asyncio.gather(
                    *(
                        stack.enter_async_context(simulated(folder, name, **QUICK, **settings))
                        for name, settings in ENGINES.items()
                    )
                ),
                strict=True,
            )
        )
        router = await stack.enter_async_context(routing(services=services))
        router.router.update({f"{name}-1": [engine.address] for name, engine in engines.items()})
        yield Fleet(router, engines)


async def test_the_injected_cause_takes_most_of_the_time(tmp_path: Path) -> None:
    found: dict[str, Counter[str]] = {}

    async def inject(fleet: Fleet, model: str) -> None:
        for number in range(NUMBER):
            for cause, happens in CAUSES[model].items():
                name = f"{cause}-{number}"
                await happens(fleet, name)
                found.setdefault(cause, Counter())[await fleet.cause(model, name)] += 1

    async with _running(tmp_path) as fleet:
        await asyncio.gather(*(inject(fleet, model) for model in CAUSES))
        await until(fleet.router.settled)
    total = sum(each.total() for each in found.values())
    right = sum(each[cause] for cause, each in found.items())
    assert total == NUMBER * sum(map(len, CAUSES.values()))
    assert right >= 0.95 * total, found
