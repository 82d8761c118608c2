"""Steady load on a service, of streams and of whole answers: what became of each request."""

import asyncio
import collections
import contextlib
import dataclasses
import json
import random
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import aiohttp

CLIENTS: Final = 6
"""That never pause; every third asks for whole answers."""
TOKENS: Final = (8, 48, 96)
SECONDS: Final = 60.0
"""For one answer."""
COMPLETE: Final = "complete"
BROKEN: Final = "broken"
"""A stream that had begun and ended with one error event, as the API has them, and without [DONE]."""


@dataclasses.dataclass(frozen=True)
class Tally:
    """What became of all requests."""

    requests: int
    broken: int
    failures: Mapping[str, int]
    """All that is neither complete nor broken, by what the client saw."""


class Load:
    """Clients of one service."""

    def __init__(self, http: aiohttp.ClientSession, *, model: str, dice: random.Random) -> None:
        self._http = http
        self._model = model
        self._dice = dice
        self._news = asyncio.Event()
        self._stopping = False
        self._outcomes: collections.Counter[str] = collections.Counter()

    @property
    def tally(self) -> Tally:
        """What became of the requests so far."""
        failures = {
            outcome: count
            for outcome, count in sorted(self._outcomes.items())
            if outcome not in (COMPLETE, BROKEN)
        }
        return Tally(self._outcomes.total(), self._outcomes[BROKEN], failures)

    async def answered(self, count: int) -> None:
        """Return once so many more requests are over."""
        wanted = self._outcomes.total() + count
        while self._outcomes.total() < wanted:
            self._news.clear()
            await self._news.wait()

    async def client(self, *, stream: bool) -> None:
        """Ask again and again, until the load ends."""
        while not self._stopping:
            tokens = self._dice.choice(TOKENS)
            body = {"model": self._model, "prompt": "Tell me all.", "max_tokens": tokens}
            try:
                async with asyncio.timeout(SECONDS):
                    outcome = await self._ask(body, stream=stream)
            except TimeoutError:
                outcome = "no end in time"
            except (aiohttp.ClientError, ConnectionError) as error:
                outcome = type(error).__name__
            self._outcomes[outcome] += 1
            self._news.set()

    def stop(self) -> None:
        """Let the requests that are running be the last."""
        self._stopping = True

    async def _ask(self, body: dict[str, Any], *, stream: bool) -> str:
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        async with self._http.post("/v1/completions", json=body) as response:
            answer = await response.read()
        if response.status != 200:
            return f"HTTP {response.status}"
        try:
            return _stream(answer, body) if stream else _whole(json.loads(answer), body)
        except (ValueError, LookupError, TypeError):
            return "malformed"


@contextlib.asynccontextmanager
async def load(url: str, *, model: str, dice: random.Random) -> AsyncIterator[Load]:
    """Clients that ask until the end of the block, and then for the rest of their answers."""
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(url, connector=connector) as http,
        asyncio.TaskGroup() as clients,
    ):
        running = Load(http, model=model, dice=dice)
        for number in range(CLIENTS):
            clients.create_task(running.client(stream=number % 3 != 0))
        yield running
        running.stop()


def _whole(answer: Any, body: Mapping[str, Any]) -> str:
    whole = answer["usage"]["completion_tokens"] == body["max_tokens"] and answer["choices"]
    return COMPLETE if whole else "too short"


def _stream(answer: bytes, body: Mapping[str, Any]) -> str:
    *events, rest = answer.decode().split("\n\n")
    *pieces, last = [event.removeprefix("data: ") for event in events]
    chunks = [json.loads(piece) for piece in pieces]
    if rest or any("error" in chunk for chunk in chunks):
        return "torn"
    if last == "[DONE]":
        return _whole({**chunks[-1], "choices": chunks[0]["choices"]}, body)
    error = json.loads(last).get("error", {})
    proper = bool(chunks) and set(error) == {"message", "type", "param", "code"}
    return BROKEN if proper else "cut without a word"
