"""One way to the engines under one kind of load for a moment."""

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.router import client
from benchmarks.router.backend import PIECES, Backend
from benchmarks.router.client import Answer, Client
from benchmarks.router.proxies import Proxy
from slipstream_runtime import contract

PACE: Final = 0.02
"""Seconds between the tokens of a stream."""
STREAM_SECONDS: Final = PIECES * PACE
_WARM_UP: Final = 20
_SCRAPE_SECONDS: Final = 0.1
_SETTLE_SECONDS: Final = 0.5
_SLOW: Final = 5.0


@dataclass(frozen=True)
class Latency:
    """Whole answers, one client, in milliseconds."""

    p50: float
    p99: float


@dataclass(frozen=True)
class Streams:
    """Paced streams side by side; times in milliseconds."""

    ttft_p50: float
    ttft_p99: float
    itl_p99: float
    cpu_us_per_chunk: float


@dataclass(frozen=True)
class Rate:
    """As many as go through."""

    per_second: float
    cpu_us: float
    """Processor time for each."""


def percentile(values: Sequence[float], percent: int) -> float:
    """By linear interpolation."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


async def latency(proxy: Proxy, *, requests: int) -> Latency:
    """Whole answers, one after the other."""
    wires = [client.request(client.body(stream=False, user=str(each))) for each in range(8)]
    async with _clients(proxy, 1) as [one]:
        for number in range(_WARM_UP):
            await one.ask(wires[number % len(wires)])
        found = [1000 * (await one.ask(wires[n % len(wires)])).seconds for n in range(requests)]
    return Latency(statistics.median(found), percentile(found, 99))


async def streams(
    proxy: Proxy, backend: Backend, *, clients: int, seconds: float, scraped: bool = False
) -> Streams:
    """Streams of 50 tokens/s that follow each other in each client; what begins and ends the run is left out."""
    backend.pace = PACE
    before = proxy.cpu_seconds()
    began = time.perf_counter() + STREAM_SECONDS
    until = began + seconds
    async with _scrapes(proxy if scraped else None):
        answers = await _crowd(proxy, clients, until=until, stream=True, spread=STREAM_SECONDS)
    cpu = proxy.cpu_seconds() - before
    seen = [answer for answer in answers if began <= answer.sent < until]
    gaps = [
        after - before
        for answer in answers
        for before, after in zip(answer.pieces, answer.pieces[1:], strict=False)
        if began <= before and after < until
    ]
    ttft = [1000 * answer.ttft for answer in seen]
    return Streams(
        ttft_p50=statistics.median(ttft),
        ttft_p99=percentile(ttft, 99),
        itl_p99=1000 * percentile(gaps, 99),
        cpu_us_per_chunk=1e6 * cpu / sum(len(answer.pieces) for answer in answers),
    )


async def requests(proxy: Proxy, *, clients: int, seconds: float) -> Rate:
    """Whole answers, each client asking as soon as it has one."""
    began, before = time.perf_counter(), proxy.cpu_seconds()
    answers = await _crowd(proxy, clients, until=began + seconds, stream=False)
    took, cpu = time.perf_counter() - began, proxy.cpu_seconds() - before
    return Rate(len(answers) / took, 1e6 * cpu / len(answers))


async def chunks(proxy: Proxy, backend: Backend, *, clients: int, seconds: float) -> Rate:
    """Streams whose next token leaves when the client has the last: no two of them ever travel as one."""
    backend.pace = None
    began, before = time.perf_counter(), proxy.cpu_seconds()
    answers = await _crowd(
        proxy, clients, until=began + seconds, stream=True, received=backend.next
    )
    took, cpu = time.perf_counter() - began, proxy.cpu_seconds() - before
    count = sum(len(answer.pieces) for answer in answers)
    return Rate(count / took, 1e6 * cpu / count)


async def kb_per_stream(proxy: Proxy, backend: Backend, *, clients: int) -> float:
    """Memory that a stream takes while it lives, in KiB."""
    backend.pace = _SLOW
    before = proxy.memory_mb()
    begun = asyncio.Semaphore(0)
    async with contextlib.AsyncExitStack() as stack:
        for number in range(clients):
            one = await Client.connect(proxy.port, received=begun.release)
            stack.callback(one.leave)
            one.begin(client.request(client.body(stream=True, user=str(number))))
        for _ in range(clients):
            await begun.acquire()
        grown = proxy.memory_mb() - before
    await asyncio.sleep(_SETTLE_SECONDS)
    return 1024 * grown / clients


async def cancel_ms(proxy: Proxy, backend: Backend, *, stream: bool) -> float:
    """From a client's leaving to the end of its request in the engine."""
    backend.pace, backend.silent = _SLOW, not stream
    one = await Client.connect(proxy.port)
    backend.came.clear()
    backend.left.clear()
    one.begin(client.request(client.body(stream=stream, user="0")))
    await backend.came.wait()
    await asyncio.sleep(_SCRAPE_SECONDS)
    began = time.perf_counter()
    one.leave()
    async with asyncio.timeout(2 * _SLOW):
        await backend.left.wait()
    backend.silent = False
    return 1000 * (time.perf_counter() - began)


async def _crowd(
    proxy: Proxy,
    clients: int,
    *,
    until: float,
    stream: bool,
    spread: float = 0.0,
    received: Callable[[str], None] | None = None,
) -> list[Answer]:
    """The answers of clients that begin spread over a time and ask until its end."""

    async def ask(number: int, one: Client) -> list[Answer]:
        wire = client.request(client.body(stream=stream, user=str(number)))
        await asyncio.sleep(spread * number / clients)
        found = []
        while time.perf_counter() < until:
            found.append(await one.ask(wire))
        return found

    async with _clients(proxy, clients, received=received) as crowd:
        found = await asyncio.gather(*(ask(number, one) for number, one in enumerate(crowd)))
    return [answer for answers in found for answer in answers]


@contextlib.asynccontextmanager
async def _clients(
    proxy: Proxy, count: int, *, received: Callable[[str], None] | None = None
) -> AsyncIterator[list[Client]]:
    found = []
    for number in range(count):
        told = None if received is None else _told(received, str(number))
        found.append(await Client.connect(proxy.port, received=told))
    try:
        yield found
    finally:
        for one in found:
            one.leave()


def _told(received: Callable[[str], None], user: str) -> Callable[[], None]:
    return lambda: received(user)


@contextlib.asynccontextmanager
async def _scrapes(proxy: Proxy | None) -> AsyncIterator[None]:
    """Read its metrics again and again meanwhile."""
    if proxy is None:
        yield
        return
    assert proxy.management_port is not None
    one = await Client.connect(proxy.management_port)
    task = asyncio.create_task(_repeat(lambda: one.ask(client.scrape(contract.METRICS_PATH))))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        one.leave()


async def _repeat(work: Callable[[], Awaitable[object]]) -> None:
    while True:
        await work()
        await asyncio.sleep(_SCRAPE_SECONDS)
