"""`make bench-cascade`: what a cascade of two trained models answers right, and what it computes for that."""

import asyncio
import contextlib
import math
import random
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from rich.console import Console
from rich.progress import Progress
from safetensors import safe_open

from benchmarks import report, servers
from benchmarks.servers import Server
from dev.models import heldout
from slipstream_runtime.router.app import Router
from slipstream_runtime.router.balancing.endpoints import Address
from slipstream_runtime.router.config import Accept, Config, Revision, Route, Service, Share, Stage
from slipstream_runtime.web import sockets

FOLDER: Final = Path(__file__).parent
MODELS: Final = servers.MODEL.parent
NAMES: Final = ("small", "large")
WEIGHTS: Final = (MODELS / "draft", MODELS / "target")
THRESHOLDS: Final = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
ENOUGH: Final = 0.99
"""Of the large model's quality."""
CLIENTS: Final = 8
TOKENS: Final = 64
ROUNDS: Final = 5
NOWHERE: Final = Path("/nonexistent")
Item = dict[str, str]
"""A question and its one right answer."""

_BASIS: Final = (
    "The models are the tiny trained pair of `dev/models` in vLLM, in float32, without a prefix cache. The draft is "
    "the small stage, and the target the large one. Held-out questions are answered greedily through the real router. "
    "The threshold is chosen on one half of the questions (the table). The figures are of the other half.\n\n"
    "`compute_of_large` counts multiplications, one for each parameter and token. Models of a useful size spend their "
    "time on these. This pair does not, because most of a step of vLLM is outside of the model. The small model alone "
    "takes `processor_small` of the large one's time, so a cascade of the two saves no time.\n"
)

MEANINGS: Final = {
    "quality_of_large": "right answers of the cascade over those of the large model alone",
    "compute_of_large": "parameters x tokens (prompts and answers, also discarded ones), over the large model alone",
    "processor_of_large": "processor time of the engines, over the large model's alone: median of the rounds",
    "processor_small": "the same for the small model alone",
    "threshold": "minConfidence: the cheapest one with enough quality on the other half of the questions",
    "small_share": "share of the answers that came from the small model",
    "discarded_share": "share of the output tokens that no client received",
    "right_small": "share of right answers of the small model alone",
    "right_large": "share of right answers of the large model alone",
    "right_cascade": "share of right answers of the cascade",
}
COLUMNS: Final = ("minConfidence", "right", "compute of large", "small share", "discarded tokens")


@dataclass(frozen=True)
class Outcome:
    """What became of some questions."""

    right: float
    """Share of the answers."""
    compute: float
    """Parameters x tokens."""
    processor: float
    """Seconds of the engines that answered."""
    small_share: float
    """Of the answers, that the first stage gave."""
    discarded_share: float
    """Of the output tokens."""


class Bench:
    """Two engines, and routers with routes over them."""

    def __init__(self, small: Server, large: Server) -> None:
        self._engines = (small, large)
        self._parameters = tuple(_parameters(folder) for folder in WEIGHTS)

    async def cascade(self, threshold: float, items: Sequence[Item]) -> Outcome:
        """Ask the small model first."""
        first = Stage(service="small", accept=Accept(min_confidence=threshold))
        stages = (first, Stage(service="large"))
        return await self._ask(Route(name="r", model="r", stages=stages), items)

    async def alone(self, name: str, items: Sequence[Item]) -> Outcome:
        """Ask one model."""
        return await self._ask(
            Route(name="r", model="r", backends=(Share(service=name, weight=1),)), items
        )

    async def _ask(self, route: Route, items: Sequence[Item]) -> Outcome:
        async with self._router(route) as (router, url):
            found = router.table.route(route.model)
            assert found is not None
            called = [NAMES.index(name) for name in found.names]
            before = self._processor(called)
            right = await _right(url, items)
            processor = self._processor(called) - before
            stages = found.totals.stages
        tokens = [stage.kept_tokens + stage.discarded_tokens for stage in stages]
        lost = sum(stage.discarded_tokens.output for stage in stages)
        return Outcome(
            right=right / len(items),
            compute=sum(
                self._parameters[model] * (each.prompt + each.output)
                for model, each in zip(called, tokens, strict=True)
            ),
            processor=processor,
            small_share=stages[0].kept / len(items),
            discarded_share=lost / sum(each.output for each in tokens),
        )

    @contextlib.asynccontextmanager
    async def _router(self, route: Route) -> AsyncIterator[tuple[Router, str]]:
        api, management = sockets.bind(0), sockets.bind(0)
        url = f"http://127.0.0.1:{api.getsockname()[1]}"
        router = Router(
            api=api,
            management=management,
            renew=_nobody,
            clock=time.monotonic,
            now=time.time,
            chance=random.random,
            keys=NOWHERE,
            token=NOWHERE,
        )
        services = tuple(
            Service(name=name, model=servers.NAME, revisions=(Revision(name=name, weight=100),))
            for name in NAMES
        )
        async with router:
            router.configure(Config(namespace="bench", services=services, routes=(route,)))
            router.update(
                {
                    name: [_address(name, engine)]
                    for name, engine in zip(NAMES, self._engines, strict=True)
                }
            )
            yield router, url

    def _processor(self, models: Sequence[int]) -> float:
        return sum(self._engines[model].cpu_seconds() for model in models)


def main() -> None:
    """Choose a threshold on one half of the questions, and measure it on the other."""
    items = heldout.read()
    with ExitStack() as stack:
        small, large = (
            stack.enter_context(
                servers.slipstream(
                    Path(stack.enter_context(tempfile.TemporaryDirectory())), config=each
                )
            )
            for each in map(_engine, WEIGHTS)
        )
        bench = Bench(small, large)
        figures, details = asyncio.run(_measure(bench, chosen_on=items[::2], told_on=items[1::2]))
    report.publish(
        folder=FOLDER,
        title="A cascade of two trained models",
        command="make bench-cascade",
        figures=figures,
        meanings=MEANINGS,
        details=details,
    )


async def _measure(
    bench: Bench, *, chosen_on: Sequence[Item], told_on: Sequence[Item]
) -> tuple[dict[str, float | str | None], str]:
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("asking", total=len(THRESHOLDS) + 1 + 3 * ROUNDS)

        async def done(outcome: Awaitable[Outcome]) -> Outcome:
            found = await outcome
            progress.advance(task)
            return found

        reference = await done(bench.alone("large", chosen_on))
        tried = {each: await done(bench.cascade(each, chosen_on)) for each in THRESHOLDS}
        good = [t for t in THRESHOLDS if tried[t].right >= ENOUGH * reference.right]
        threshold = min(good, key=lambda each: tried[each].compute, default=THRESHOLDS[-1])
        rounds = [
            (
                await done(bench.alone("large", told_on)),
                await done(bench.alone("small", told_on)),
                await done(bench.cascade(threshold, told_on)),
            )
            for _ in range(ROUNDS)
        ]
    large, small, own = rounds[0]
    figures: dict[str, float | str | None] = {
        "quality_of_large": round(own.right / large.right, 3),
        "compute_of_large": round(own.compute / large.compute, 3),
        "processor_of_large": round(median(c.processor / a.processor for a, _, c in rounds), 2),
        "processor_small": round(median(b.processor / a.processor for a, b, _ in rounds), 2),
        "threshold": threshold,
        "small_share": round(own.small_share, 3),
        "discarded_share": round(own.discarded_share, 3),
        "right_small": round(small.right, 3),
        "right_large": round(large.right, 3),
        "right_cascade": round(own.right, 3),
    }
    return figures, _details(tried, reference)


def _details(tried: Mapping[float, Outcome], reference: Outcome) -> str:
    rows = [
        f"| {threshold:g} | {found.right:.3f} | {found.compute / reference.compute:.2f} "
        f"| {found.small_share:.2f} | {found.discarded_share:.2f} |"
        for threshold, found in tried.items()
    ]
    head = f"| {' | '.join(COLUMNS)} |\n|{'---:|' * len(COLUMNS)}"
    return f"{_BASIS}\n" + "\n".join([head, *rows]) + "\n"


async def _right(url: str, items: Sequence[Item]) -> int:
    """How many answers are right."""
    gate = asyncio.Semaphore(CLIENTS)

    async def ask(item: Item) -> bool:
        message = {"role": "user", "content": item["prompt"]}
        body = {"model": "r", "messages": [message], "temperature": 0, "max_tokens": TOKENS}
        async with gate:
            reply = await http.post(f"{url}/v1/chat/completions", json=body)
        answer: str = reply.raise_for_status().json()["choices"][0]["message"]["content"]
        return answer == item["answer"]

    async with httpx.AsyncClient(timeout=120) as http:
        return sum(await asyncio.gather(*map(ask, items)))


def _engine(folder: Path) -> dict[str, Any]:
    """Without a prefix cache: the same questions come again and again here."""
    cache = {**servers.defaults()["cache"], "prefix": False}
    return {"model": {"uri": f"file://{folder}", "name": servers.NAME}, "cache": cache}


def _address(name: str, engine: Server) -> Address:
    api, management = urlsplit(engine.url), urlsplit(engine.metrics)
    assert api.hostname and api.port and management.port
    return Address(name, api.hostname, api.port, management.port)


def _parameters(folder: Path) -> int:
    with safe_open(folder / "model.safetensors", framework="np") as weights:
        return sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118 (no mapping)


async def _nobody(lease: str) -> None:
    raise AssertionError(lease)


if __name__ == "__main__":
    main()
