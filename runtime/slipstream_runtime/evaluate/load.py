"""`python -m slipstream_runtime.evaluate.load`: measure an OpenAI-compatible endpoint under load.

An open run sends each request on time, however long the answers take. So a slow server can't slow its clients down and
hide how long they would have waited.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from slipstream_runtime.evaluate import records, traffic

_UNAVAILABLE = 503
"""Status that is retried."""

Progress = Callable[[int, int], None]
"""Called with the numbers of requests sent and finished so far."""


@dataclass(slots=True)
class _Answer:
    """Part of one answer that has arrived so far, in the event loop's time."""

    status: int | None = None
    first: float | None = None
    last: float | None = None
    chunks: int = 0
    usage: tuple[int, int] | None = None
    done: bool = False
    error: str | None = None


class _Run:
    """Run in progress."""

    def __init__(
        self,
        plan: traffic.Plan,
        http: aiohttp.ClientSession,
        *,
        progress: Progress | None,
        stop: asyncio.Event | None,
    ) -> None:
        self._plan = plan
        self._stop = stop
        self._http = http
        self._progress = progress
        self._loop = asyncio.get_running_loop()
        self._begin = self._loop.time()
        self._bodies = plan.bodies()
        self._sent = 0
        self.records: list[records.Record] = []

    async def open(self) -> None:
        """Send at the planned times, then wait for the answers."""
        async with asyncio.TaskGroup() as group:
            for at in self._plan.arrivals():
                await asyncio.sleep(max(0.0, self._begin + at - self._loop.time()))
                group.create_task(self._request(*self._next()))

    async def closed(self, clients: int) -> None:
        """Keep `clients` requests in flight until the time or count is up, or `stop` is set."""
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(self._client())

    async def _client(self) -> None:
        plan = self._plan
        while self._loop.time() < self._begin + plan.duration:
            if plan.requests is not None and self._sent >= plan.requests:
                return
            if self._stop is not None and self._stop.is_set():
                return
            await self._request(*self._next())

    def _next(self) -> tuple[str, traffic.Body]:
        self._sent += 1
        return next(self._bodies)

    async def _request(self, path: str, body: traffic.Body) -> None:
        start = self._loop.time()
        retries = 0
        answer = _Answer()
        try:
            async with asyncio.timeout(self._plan.timeout):
                await self._attempt(path, body, answer)
                while _may_retry(answer) and retries < self._plan.connect_retries:
                    retries += 1
                    answer = _Answer()
                    await self._attempt(path, body, answer)
        except TimeoutError:
            answer.error = "Timeout"
        self.records.append(
            _record(answer, begin=self._begin, start=start, end=self._loop.time(), retries=retries)
        )
        if self._progress:
            self._progress(self._sent, len(self.records))

    async def _attempt(self, path: str, body: traffic.Body, answer: _Answer) -> None:
        try:
            async with self._http.post(self._plan.url + path, json=body) as response:
                answer.status = response.status
                if response.status != 200:
                    answer.error = f"HTTP {response.status}"
                    return
                async for line in response.content:
                    self._read(line, answer)
        except aiohttp.ClientConnectorError:
            answer.error = "ConnectError"
        except (aiohttp.ClientError, ConnectionError) as error:
            answer.error = type(error).__name__
        except (ValueError, LookupError, TypeError, AttributeError):
            answer.error = "Malformed"
        else:
            if not answer.done and answer.error is None:
                answer.error = "Truncated"

    def _read(self, line: bytes, answer: _Answer) -> None:
        if not line.startswith(b"data:"):
            return
        data = line[5:].strip()
        if data == b"[DONE]":
            answer.done = True
            return
        chunk = json.loads(data)
        if "error" in chunk:
            answer.error = "StreamError"
        if usage := chunk.get("usage"):
            answer.usage = (usage["prompt_tokens"], usage["completion_tokens"])
        if any(_text(choice) for choice in chunk.get("choices", ())):
            answer.last = self._loop.time()
            answer.first = answer.last if answer.first is None else answer.first
            answer.chunks += 1


def _text(choice: dict[str, object]) -> bool:
    delta = choice.get("delta")
    if isinstance(delta, dict):
        return bool(
            delta.get("content") or delta.get("reasoning") or delta.get("reasoning_content")
        )
    return bool(choice.get("text"))


def _may_retry(answer: _Answer) -> bool:
    """Whether the server can't have answered any part of the request."""
    unanswered = answer.status is None and answer.error is not None
    return unanswered or answer.status == _UNAVAILABLE


def _record(
    answer: _Answer, *, begin: float, start: float, end: float, retries: int
) -> records.Record:
    prompt, output = answer.usage or (0, answer.chunks)
    ttft = tpot = None
    if answer.first is not None and answer.last is not None:
        ttft = answer.first - start
        tpot = (answer.last - answer.first) / (output - 1) if output > 1 else None
    return records.Record(
        start=start - begin,
        duration=end - start,
        status=answer.status,
        error=answer.error,
        retries=retries,
        ttft=ttft,
        tpot=tpot,
        prompt_tokens=prompt,
        output_tokens=output,
    )


async def run(
    plan: traffic.Plan, *, progress: Progress | None = None, stop: asyncio.Event | None = None
) -> records.Report:
    """Run the plan, for at most its duration and its timeout. Clients of a closed run stop once `stop` is set."""
    connector = aiohttp.TCPConnector(limit=0)
    no_limit = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(
        connector=connector, timeout=no_limit, headers=dict(plan.headers)
    ) as http:
        running = _Run(plan, http, progress=progress, stop=stop)
        if plan.concurrency is None:
            await running.open()
        else:
            await running.closed(plan.concurrency)
    found = tuple(sorted(running.records, key=lambda record: record.start))
    return records.Report(summary=records.summarize(found), records=found)


def _arguments(argv: Sequence[str] | None) -> tuple[traffic.Plan, str]:
    parser = argparse.ArgumentParser(
        prog="slipstream_runtime.evaluate.load", description="Measure an OpenAI-compatible server."
    )
    add = parser.add_argument
    add("--url", required=True, help="without /v1")
    add("--model", required=True)
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--rate", type=float, help="requests per second, Poisson")
    kind.add_argument("--concurrency", type=int, help="clients that never pause")
    add("--duration", type=float, default=30.0, help="seconds in which requests are sent")
    add("--requests", type=int, help="stop after this many requests")
    add("--prompt-tokens", type=int, default=256)
    add("--max-tokens", type=int, default=128)
    add("--ignore-eos", action="store_true")
    add("--prompts", type=Path, metavar="FILE", help="JSON lines with prompt or messages")
    add("--connect-retries", type=int, default=1, help="after a connection error or a 503")
    add("--timeout", type=float, default=60.0, help="seconds for one request")
    add("--seed", type=int, default=0)
    add("-o", "--output", choices=("table", "json"), default="table")
    given = vars(parser.parse_args(argv))
    output: str = given.pop("output")
    given["url"] = given["url"].rstrip("/").removesuffix("/v1")
    file: Path | None = given.pop("prompts")
    try:
        if file is not None:
            given["prompts"] = traffic.parse_prompts(
                file.read_text(encoding="utf-8-sig").split("\n")
            )
        return traffic.Plan(**given), output
    except (OSError, ValueError) as error:
        parser.error(str(error))


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line; 1 if no request succeeded."""
    plan, output = _arguments(argv)
    # NB: only the command line needs rich, not other users of `run`.
    from slipstream_runtime.evaluate import screen  # noqa: PLC0415

    with screen.progress(plan.duration) as progress:
        report = asyncio.run(run(plan, progress=progress))
    if output == "json":
        json.dump(report.as_json(), sys.stdout)
        sys.stdout.write("\n")
    else:
        screen.show(report.summary)
    return 0 if report.summary.succeeded else 1


if __name__ == "__main__":
    raise SystemExit(main())
