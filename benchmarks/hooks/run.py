"""`make bench-hooks`: prompt tokens and time to the first token that the hooks of a route save and cost."""

import asyncio
import contextlib
import json
import random
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from rich.console import Console
from rich.progress import Progress

from benchmarks import report, servers
from benchmarks.hooks import services
from benchmarks.servers import Server
from dev import metrics
from dev.models import heldout
from slipstream_runtime.router.app import Router
from slipstream_runtime.router.balancing.endpoints import Address
from slipstream_runtime.router.config import (
    Condense,
    Config,
    Retrieve,
    Revision,
    Route,
    Service,
    Share,
)
from slipstream_runtime.web import sockets

FOLDER: Final = Path(__file__).parent
NAMES: Final = ("chat", "small")
WEIGHTS: Final = (servers.MODEL, servers.MODEL.parent / "draft")
NOWHERE: Final = Path("/nonexistent")
CONVERSATIONS: Final = 8
TURNS: Final = 14
SENTENCES: Final = 6
"""Questions and answers in each message of the user, about 75 tokens."""
CONDENSE: Final = Condense(
    service="small", over_tokens=600, keep_turns=2, summary_tokens=48, timeout=60.0
)
QUESTIONS: Final = 60
TOP: Final = 4
BUDGET: Final = 256
ANSWER_TOKENS: Final = 8
Message = dict[str, str]

MEANINGS: Final = {
    "condense_prompt_tokens_plain": "prompt tokens of a chat, mean of all turns of the conversations, without the hook",
    "condense_prompt_tokens": "the same with condense",
    "condense_saved_cold": "share of the prefill that condense saved, if no prefix is cached",
    "condense_saved_warm": "the same with the engine's prefix cache, which has most of a conversation; below 0: a cost",
    "condense_ttft_cold_plain_ms": (
        "median time to the first token of long chats without a cached prefix, without the hook"
    ),
    "condense_ttft_cold_ms": "the same with condense",
    "condense_ttft_warm_plain_ms": (
        "median time to the first token of long chats with the prefix cache, without the hook"
    ),
    "condense_ttft_warm_ms": "the same with condense",
    "condense_ttft_with_new_summary_ms": "median of the chats that waited for a new summary",
    "condense_summaries": "new summaries of all chats",
    "condense_summary_share": "share of the long chats that waited for a new summary",
    "condense_spent_of_saved_cold": "tokens of the small model for the summaries, over the prefill that they saved",
    "retrieve_added_tokens": "prompt tokens that passages added to a chat, mean",
    "retrieve_found": "share of the questions whose own passage was found",
    "retrieve_search_ms": "time of a search in the router, mean: the encoder, the index and two HTTP calls",
    "retrieve_ttft_plain_ms": "time to the first token of a question, median, without the hook",
    "retrieve_ttft_ms": "the same with retrieve",
    "failures": "failures of hooks",
}

_BASIS: Final = (
    f"Conversations of {TURNS} turns, of the tiny trained language of `dev/models`, are answered by the target model "
    f"in vLLM through the real router: {CONVERSATIONS} without cached prefixes, and {CONVERSATIONS} with them. Each "
    "goes once through a route without a hook and once through one with it, in turns. Chats of more than "
    f"{CONDENSE.over_tokens} estimated tokens are condensed, and are the long ones of the table. The last "
    f"{CONDENSE.keep_turns} turns stay. The draft model writes the summaries. It was not trained for that, so their "
    "content is of no use, and only tokens and times count here. Cold chats have a `cache_salt` of their own.\n\n"
    f"The search has the {len(heldout.read())} held-out questions with their answers as passages, with vectors of "
    "all-MiniLM-L6-v2 on ONNX Runtime. All processes share the machine. A token of this model costs little compute. "
    "Models of a useful size save more time by a shorter prompt, and lose less by the search. Budgets count 4 bytes as "
    "a token, and this tokenizer knows no English, so passages take more tokens than their budget.\n\n"
    "With a warm prefix cache, the engine computes only the new turn of a conversation, while each new summary changes "
    "the prompt's beginning. Condense then costs prefill. It saves prefill where the cache no longer has a "
    "conversation, and it saves KV cache and room in the context in any case.\n"
)


@dataclass
class Side:
    """Measurements of one route."""

    tokens: list[int] = field(default_factory=list)
    """Prompt tokens of each chat."""
    computed: float = 0.0
    """Prompt tokens that the engine computed, because they were not cached."""
    seconds: list[float] = field(default_factory=list)
    """Time to the first token of each long chat."""
    waited: list[float] = field(default_factory=list)
    """The same, of chats that waited for a new summary."""


class Bench:
    """Engines behind a router, with routes of equal services."""

    def __init__(self, router: Router, url: str, chat: Server, http: httpx.AsyncClient) -> None:
        self._router = router
        self._url = url
        self._chat = chat
        self._http = http

    async def conversation(
        self, route: str, turns: Sequence[Message], *, cold: bool, side: Side
    ) -> None:
        """Play a conversation turn by turn; the answers are given, so that all routes have the same one."""
        salt = uuid.uuid4().hex
        before = self._computed()
        for end in range(1, len(turns) + 1, 2):
            made = await self._metric("slipstream_router_hook_summaries_total", source="new")
            salt = uuid.uuid4().hex if cold else salt
            messages = turns[:end]
            tokens, seconds = await self.ask(route, messages, cache_salt=salt)
            side.tokens.append(tokens)
            if _estimated(messages) > CONDENSE.over_tokens:
                side.seconds.append(seconds)
                now = await self._metric("slipstream_router_hook_summaries_total", source="new")
                if now > made:
                    side.waited.append(seconds)
        side.computed += self._computed() - before

    async def ask(
        self, route: str, messages: Sequence[Message], **fields: Any
    ) -> tuple[int, float]:
        """Return the prompt tokens of a streamed chat, and the seconds to its first token."""
        body = {
            "model": route,
            "messages": messages,
            "temperature": 0,
            "max_tokens": ANSWER_TOKENS,
            "stream": True,
            "stream_options": {"include_usage": True},
            **fields,
        }
        began, first, tokens = time.perf_counter(), 0.0, 0
        async with self._http.stream("POST", self._url, json=body) as reply:
            reply.raise_for_status()
            async for line in reply.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                event = json.loads(line.removeprefix("data: "))
                if not first and any(c["delta"].get("content") for c in event["choices"]):
                    first = time.perf_counter() - began
                if event.get("usage"):
                    tokens = event["usage"]["prompt_tokens"]
        return tokens, first or time.perf_counter() - began

    async def hook(self, name: str, **labels: str) -> float:
        """Return a metric of the hooks."""
        return await self._metric(f"slipstream_router_hook_{name}", **labels)

    async def _metric(self, name: str, **labels: str) -> float:
        return metrics.total((await self._router.metrics.render()).decode(), name, **labels)

    def _computed(self) -> float:
        page = httpx.get(self._chat.metrics).raise_for_status().text
        hits = metrics.total(page, "vllm:prefix_cache_hits_total")
        return metrics.total(page, "vllm:prompt_tokens_total") - hits


def main() -> None:
    """Measure both hooks, and publish."""
    with ExitStack() as stack:

        def home() -> Path:
            return Path(stack.enter_context(tempfile.TemporaryDirectory()))

        embeddings = stack.enter_context(services.encoder(home()))
        texts = [f"{item['prompt']} {item['answer']}" for item in heldout.read()]
        search = stack.enter_context(services.search(home(), texts, embeddings=embeddings))
        chat, small = (
            stack.enter_context(servers.slipstream(home(), config=_engine(each)))
            for each in WEIGHTS
        )
        figures = asyncio.run(_measure(chat, small, search))
    report.publish(
        folder=FOLDER,
        title="Hooks of routes: shorter conversations and passages",
        command="make bench-hooks",
        figures={name: figures[name] for name in MEANINGS},
        meanings=MEANINGS,
        details=_BASIS,
    )


def _engine(weights: Path) -> dict[str, Any]:
    return {"model": {"uri": f"file://{weights}", "name": servers.NAME}, "cores": 1}


async def _measure(chat: Server, small: Server, search: str) -> dict[str, float | str | None]:
    async with (
        _router(chat, small, search) as (router, url),
        httpx.AsyncClient(timeout=120) as http,
    ):
        bench = Bench(router, f"{url}/v1/chat/completions", chat, http)
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task("conversations", total=2 * CONVERSATIONS)
            sides = {
                (route, cold): Side() for route in ("plain", "condensed") for cold in (True, False)
            }
            conversations, spent = list(_conversations()), list[float]()
            await bench.ask("plain", conversations[0][:1])
            for cold in (True, False):
                # NB: summaries are kept by their turns, so each condition has conversations of its own.
                for turns in conversations[cold::2]:
                    for route in ("plain", "condensed"):
                        await bench.conversation(route, turns, cold=cold, side=sides[route, cold])
                    progress.advance(task)
                spent.append(await bench.hook("tokens_total", hook="condense", kind="spent"))
            found = await _condensed(bench, sides, spent=spent[0])
            found |= await _retrieved(bench, search, http)
        found["failures"] = await bench.hook("failures_total")
    return found


async def _condensed(
    bench: Bench, sides: dict[tuple[str, bool], Side], *, spent: float
) -> dict[str, float | str | None]:
    plain = {cold: sides["plain", cold] for cold in (True, False)}
    short = {cold: sides["condensed", cold] for cold in (True, False)}
    summaries = await bench.hook("summaries_total", source="new")
    waited = [seconds for side in short.values() for seconds in side.waited]
    long = sum(len(side.seconds) for side in short.values())
    saved = {cold: plain[cold].computed - short[cold].computed for cold in (True, False)}
    return {
        "condense_prompt_tokens_plain": round(mean(plain[True].tokens + plain[False].tokens), 1),
        "condense_prompt_tokens": round(mean(short[True].tokens + short[False].tokens), 1),
        "condense_saved_cold": round(saved[True] / plain[True].computed, 3),
        "condense_saved_warm": round(saved[False] / plain[False].computed, 3),
        "condense_ttft_cold_plain_ms": _ms(plain[True].seconds),
        "condense_ttft_cold_ms": _ms(short[True].seconds),
        "condense_ttft_warm_plain_ms": _ms(plain[False].seconds),
        "condense_ttft_warm_ms": _ms(short[False].seconds),
        "condense_ttft_with_new_summary_ms": _ms(waited) if waited else None,
        "condense_summaries": summaries,
        "condense_summary_share": round(len(waited) / long, 3),
        "condense_spent_of_saved_cold": round(spent / saved[True], 3),
    }


async def _retrieved(
    bench: Bench, search: str, http: httpx.AsyncClient
) -> dict[str, float | str | None]:
    sides = {"plain": Side(), "retrieved": Side()}
    found = 0
    items = heldout.read()[:: len(heldout.read()) // QUESTIONS]
    for item in items:
        for route, side in sides.items():
            question = [{"role": "user", "content": item["prompt"]}]
            tokens, seconds = await bench.ask(route, question, cache_salt=uuid.uuid4().hex)
            side.tokens.append(tokens)
            side.seconds.append(seconds)
        body = {"query": item["prompt"], "max_num_results": TOP}
        page = (await http.post(search, json=body)).raise_for_status().json()
        texts = [part["text"] for each in page["data"] for part in each["content"]]
        found += f"{item['prompt']} {item['answer']}" in texts
    seconds = await bench.hook("duration_seconds_sum", hook="retrieve")
    count = await bench.hook("duration_seconds_count", hook="retrieve")
    return {
        "retrieve_added_tokens": round(
            mean(sides["retrieved"].tokens) - mean(sides["plain"].tokens), 1
        ),
        "retrieve_found": round(found / len(items), 3),
        "retrieve_search_ms": round(1000 * seconds / count, 1),
        "retrieve_ttft_plain_ms": _ms(sides["plain"].seconds),
        "retrieve_ttft_ms": _ms(sides["retrieved"].seconds),
    }


def _conversations() -> Iterator[list[Message]]:
    """Yield conversations that share no beginning, each of an odd number of messages."""
    chance = random.Random(7)
    items = heldout.read()
    for _ in range(2 * CONVERSATIONS):
        messages: list[Message] = []
        for _ in range(TURNS):
            some = chance.sample(items, SENTENCES)
            said = " ".join(f"{item['prompt']} {item['answer']}" for item in some[:-1])
            messages.append({"role": "user", "content": f"{said} {some[-1]['prompt']}"})
            messages.append({"role": "assistant", "content": some[-1]["answer"]})
        yield messages[:-1]


def _estimated(messages: Sequence[Message]) -> float:
    """Return the tokens as the router estimates them, from the bytes of the body."""
    return len(json.dumps(messages)) / 4


def _ms(seconds: Sequence[float]) -> float:
    return round(1000 * median(seconds), 1)


@contextlib.asynccontextmanager
async def _router(chat: Server, small: Server, search: str) -> AsyncIterator[tuple[Router, str]]:
    api, management = sockets.bind(0), sockets.bind(0)
    url = f"http://127.0.0.1:{api.getsockname()[1]}"
    router = Router(
        api=api,
        management=management,
        renew=_renew_nothing,
        clock=time.monotonic,
        now=time.time,
        chance=random.random,
        keys=NOWHERE,
        token=NOWHERE,
    )
    share = (Share(service="chat", weight=1),)
    retrieve = Retrieve(url=search, top_k=TOP, budget_tokens=BUDGET, timeout=60.0)
    routes = (
        Route(name="plain", model="plain", backends=share),
        Route(name="condensed", model="condensed", backends=share, condense=CONDENSE),
        Route(name="retrieved", model="retrieved", backends=share, retrieve=retrieve),
    )
    found = tuple(
        Service(name=name, model=servers.NAME, revisions=(Revision(name=name, weight=100),))
        for name in NAMES
    )
    async with router:
        router.configure(Config(namespace="bench", services=found, routes=routes))
        router.update({"chat": [_address("chat", chat)], "small": [_address("small", small)]})
        yield router, url


def _address(name: str, server: Server) -> Address:
    port, management = (urlsplit(url).port for url in (server.url, server.metrics))
    assert port is not None
    assert management is not None
    return Address(name, "127.0.0.1", port, management)


async def _renew_nothing(lease: str) -> None:
    raise AssertionError(lease)


if __name__ == "__main__":
    main()
