"""Rollback under load: the router on real sockets, real simulator engines, and the judgement of the operator."""

import asyncio
import contextlib
import math
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.rollout.fleet import CANARY, SERVICE, STABLE, judged
from dev import metrics
from slipstream_operator.core.comparison import collection
from slipstream_operator.core.comparison.collection import Collected, Comparison
from slipstream_operator.core.comparison.judgement import Judgement, Verdict
from slipstream_operator.core.scaling.metrics.values import Sample
from slipstream_runtime import contract
from slipstream_runtime.router.balancing.endpoints import Address
from tests.support import processes
from tests.support.routers import Running, routing

CLIENTS: Final = 8
STEP: Final = 50
"""Percent of the requests that the canary gets."""
REQUESTS: Final = 2_000
"""Requests of the step. Without a verdict until then it ends."""
AFTER: Final = 200
"""Requests after the rollback, during which the canary's engine stops."""
LOOK_SECONDS: Final = 0.25
SLOWER: Final = 1.2
_STEP_SECONDS: Final = 0.01
_TOKENS: Final = 12
_SECONDS: Final = 300.0


@dataclass
class Outcome:
    """Rollback as clients and the operator saw it."""

    requests: int = 0
    lost: int = 0
    """Requests without a complete answer."""
    caught_at: int | None = None
    """Requests of the step until the canary was found to be worse."""
    judgement: Judgement | None = None


@dataclass
class _Load:
    """Streams of clients, one after the other for each."""

    router: Running
    outcome: Outcome
    last: float = math.inf
    """Number of the last request."""

    async def run(self) -> None:
        while self.outcome.requests < self.last:
            self.outcome.requests += 1
            reply = await self.router.ask(stream=True, max_tokens=_TOKENS, ignore_eos=True)
            if reply.status != 200 or not reply.whole or not reply.body.endswith(b"[DONE]\n\n"):
                self.outcome.lost += 1


def run() -> Outcome:
    """Roll back a canary that is slower, under load."""
    return asyncio.run(_run())


async def _run() -> Outcome:
    async with _engines() as engines, routing(services=[_service(0)]) as router:
        placed = {f"{SERVICE}-{name}": each for name, each in engines.items()}
        found = {name: [_address(name, each)] for name, each in placed.items()}
        router.router.update(found)
        outcome = Outcome()
        load = _Load(router, outcome)
        clients = [asyncio.create_task(load.run()) for _ in range(CLIENTS)]
        try:
            async with asyncio.timeout(_SECONDS):
                await _compare(router, outcome)
                router.configure(_service(0))
                at = outcome.requests
                canary = placed[f"{SERVICE}-{CANARY}"]
                # NB: the Endpoints of a pod go before its engine stops, as in a cluster.
                router.router.update({f"{SERVICE}-{STABLE}": found[f"{SERVICE}-{STABLE}"]})
                canary.process.send_signal(signal.SIGTERM)
                load.last = at + AFTER
                await asyncio.gather(*clients)
        finally:
            load.last = 0
            await asyncio.gather(*clients)
        return outcome


async def _compare(router: Running, outcome: Outcome) -> None:
    """Give the canary its share, until it is found to be worse or the step ends."""
    comparison = Comparison(STABLE, CANARY, {STABLE: 100 - STEP, CANARY: STEP}, since=time.time())
    router.configure(_service(STEP))
    began, collected = outcome.requests, Collected(comparison)
    while outcome.requests < began + REQUESTS:
        await asyncio.sleep(LOOK_SECONDS)
        collected = collection.collect(collected, await _samples(router), service=SERVICE)
        outcome.judgement = judged(collected)
        if outcome.judgement is not None and outcome.judgement.verdict is Verdict.WORSE:
            outcome.caught_at = outcome.requests - began
            return


async def _samples(router: Running) -> list[Sample]:
    text = (await router.router.metrics.render()).decode()
    return [
        Sample({**sample.labels, "namespace": "team", "pod": "router"}, sample.value)
        for sample in metrics.samples(text, contract.ROUTER_COMPARED)
    ]


def _service(share: int) -> Mapping[str, Any]:
    weights = {STABLE: 100 - share, CANARY: share}
    return {
        "name": SERVICE,
        "model": "m",
        "revisions": [
            {"name": f"{SERVICE}-{name}", "weight": weight} for name, weight in weights.items()
        ],
    }


@contextlib.asynccontextmanager
async def _engines() -> AsyncIterator[Mapping[str, processes.Process]]:
    """Run an engine of each revision."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        found = {}
        for name, factor in ((STABLE, 1.0), (CANARY, SLOWER)):
            place = Path(folder) / name
            place.mkdir()
            settings = {
                "model": {"name": "m"}, "coldStart": 0, "lingerSeconds": 0, "alpha": factor * _STEP_SECONDS,
            }  # fmt: skip
            found[name] = processes.Simulator(place, settings)
            stack.callback(found[name].kill)
        for engine in found.values():
            await asyncio.to_thread(engine.until_ready)
        yield found


def _address(name: str, engine: processes.Process) -> Address:
    return Address(name, "127.0.0.1", engine.port("api"), engine.port("management"))
