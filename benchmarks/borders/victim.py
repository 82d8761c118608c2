"""The other client: one short request after the other with a key of its own, now and then with a schema."""

import asyncio
import itertools
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from benchmarks.borders.attacks import connections
from benchmarks.borders.wire import HOST, Target

TIMEOUT: Final = 20.0
"""Seconds after which this client gives up, which counts as a failure."""
_PAUSE: Final = 0.05
_SCHEMA: Final = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
_STRUCTURED: Final = 4
"""Every request of this number has a schema."""


@dataclass
class Seen:
    """Times and failures that the client saw."""

    seconds: list[float] = field(default_factory=list)
    """To the first token, one a request; TIMEOUT for a request that failed by time."""
    failures: list[str] = field(default_factory=list)

    @property
    def p99(self) -> float:
        if len(self.seconds) < 2:
            return self.seconds[0] if self.seconds else TIMEOUT
        return statistics.quantiles(self.seconds, n=100, method="inclusive")[98]


class Victim:
    """Client of one service."""

    def __init__(self, target: Target, *, kind: str) -> None:
        self._url = f"http://{HOST}:{target.port}"
        self._headers = {"host": target.host}
        if target.key is not None:
            self._headers["authorization"] = f"Bearer {target.key}"
        self._kind = kind
        self._bodies = self._requests(target.model)

    async def until(self, done: asyncio.Event) -> Seen:
        """Ask until the event is set; the last request is waited for."""
        seen = Seen()
        # NB: every request has a connection of its own, since a client comes at any time.
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT),
        ) as http:
            while not done.is_set():
                await self._one(http, seen)
                await asyncio.sleep(_PAUSE)
        return seen

    async def once(self) -> Seen:
        """Ask as often as it takes to see each kind of request."""
        seen = Seen()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT)) as http:
            for _ in range(_STRUCTURED):
                await self._one(http, seen)
        return seen

    async def _one(self, http: aiohttp.ClientSession, seen: Seen) -> None:
        path, body = next(self._bodies)
        started = time.perf_counter()
        try:
            async with http.post(self._url + path, json=body, headers=self._headers) as response:
                first, whole = None, not body.get("stream")
                async for line in response.content:
                    first = first or time.perf_counter() - started
                    whole = whole or line.strip() == b"data: [DONE]"
                    if b'"error"' in line and response.status == 200:
                        whole = False
                        break
                if response.status == 200 and whole and first is not None:
                    seen.seconds.append(first)
                    return
                seen.failures.append(f"HTTP {response.status}" + ("" if whole else ", cut"))
        except TimeoutError:
            seen.failures.append("timeout")
            seen.seconds.append(TIMEOUT)
        except aiohttp.ClientError as error:
            seen.failures.append(type(error).__name__)

    def _requests(self, model: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for number in itertools.count():
            if self._kind == "encoder":
                yield "/v1/embeddings", {"model": model, "input": f"A kitten, number {number}."}
                continue
            body: dict[str, Any] = {
                "model": model,
                "messages": [{"role": "user", "content": f"Say {number}."}],
                "max_tokens": 4,
                "stream": True,
                "temperature": 1.0,
            }
            if self._kind == "shared":
                message = {"role": "user", "content": connections.shared_prompt()}
                body |= {"messages": [message], "temperature": 0, "stream": False}
                body |= {"max_tokens": connections.SHARED_TOKENS, "ignore_eos": True}
            elif self._kind != "fragile" and number % _STRUCTURED == 0:
                body["response_format"] = {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": _SCHEMA},
                }
            yield "/v1/chat/completions", json.loads(json.dumps(body))
