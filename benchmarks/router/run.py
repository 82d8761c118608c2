"""`make bench-router`: what the router adds to its engines' times, beside nginx and another LLM router.

The engines and their clients have one core, each router another. All are measured in turn, many
times: what the machine does meanwhile befalls all of them.
"""

import asyncio
import contextlib
import os
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import click
import uvloop
from rich.console import Console
from rich.progress import Progress

from benchmarks import report
from benchmarks.router import client, installed, measure, proxies
from benchmarks.router.backend import Backend
from benchmarks.router.client import Client
from benchmarks.router.measure import Latency, Rate, Streams
from benchmarks.router.proxies import Proxy
from benchmarks.routing.run import pick_p99_ms

FOLDER: Final = Path(__file__).parent
ROUNDS: Final = 8
STREAMS: Final = 32
SCRAPED_STREAMS: Final = 64
CLIENTS: Final = 32
REQUESTS: Final = 400
"""In a row, for the latency of one client."""
SECONDS: Final = 1.5
STREAM_SECONDS: Final = 2.0
LIVE_STREAMS: Final = 256
CANCELS: Final = 10
_START_SECONDS: Final = 60.0

MEANINGS: Final = {
    "added_p50_ms": "complete answers, 1 client: latency that the router adds, median; target 1.0",
    "added_p99_ms": "the same, 99th percentile; target 5",
    "added_ttft_p50_ms": "time to first token, 32 streams of 50 tokens/s: latency that the router adds; target 2",
    "requests_per_second": "complete answers per second on one core, 32 clients; target 2000",
    "chunks_per_second": "events per second of 64 streams, none of them merged, on one core; target 5000",
    "nginx_added_p50_ms": "nginx as a plain proxy: latency that it adds to complete answers, median",
    "peer_added_p50_ms": "vllm-router (Rust, round robin): latency that it adds to complete answers, median",
    "peer_requests_per_second": "the same router: complete answers per second on one core",
}


@dataclass
class Samples:
    """Results of the rounds on one path."""

    latency: list[Latency] = field(default_factory=list)
    streams: list[Streams] = field(default_factory=list)
    requests: list[Rate] = field(default_factory=list)
    chunks: list[Rate] = field(default_factory=list)
    base_mb: float | None = None
    stream_kb: float | None = None


@dataclass
class Found:
    """All that was measured."""

    ways: dict[str, Samples] = field(default_factory=dict)
    quiet_itl: list[float] = field(default_factory=list)
    scraped_itl: list[float] = field(default_factory=list)
    cancels: list[float] = field(default_factory=list)
    pick_ms: float = 0.0
    missing: dict[str, str] = field(default_factory=dict)
    """What could not be had, and why."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    target: str
    values: Callable[[Samples, Samples], Sequence[float]]
    """One a round, of a way and of the direct one in the same round."""


def _added(what: str, read: Callable[[Samples], Sequence[object]], name: str, target: str) -> Row:
    def values(way: Samples, direct: Samples) -> list[float]:
        pairs = zip(read(way), read(direct), strict=True)
        return [getattr(mine, name) - getattr(plain, name) for mine, plain in pairs]

    return Row(what, target, values)


def _plain(what: str, read: Callable[[Samples], Sequence[object]], name: str, target: str) -> Row:
    return Row(what, target, lambda way, _: [getattr(each, name) for each in read(way)])


ROWS: Final = {
    "p50": _added("added, 1 client, p50, ms", lambda s: s.latency, "p50", "<= 1.0"),
    "p99": _added("added, 1 client, p99, ms", lambda s: s.latency, "p99", "<= 5"),
    "ttft_p50": _added("added TTFT, p50, ms", lambda s: s.streams, "ttft_p50", "<= 2"),
    "ttft_p99": _added("added TTFT, p99, ms", lambda s: s.streams, "ttft_p99", "<= 10"),
    "itl_p99": _added("added ITL, p99, ms", lambda s: s.streams, "itl_p99", "<= 4"),
    "requests": _plain("requests/s", lambda s: s.requests, "per_second", ">= 2000"),
    "request_us": _plain("CPU per request, us", lambda s: s.requests, "cpu_us", "<= 450"),
    "chunks": _plain("chunks/s", lambda s: s.chunks, "per_second", ">= 5000"),
    "chunk_us": _plain(
        "CPU per chunk, 32 streams, us", lambda s: s.streams, "cpu_us_per_chunk", "<= 180"
    ),
    "busy_chunk_us": _plain("CPU per chunk, core full, us", lambda s: s.chunks, "cpu_us", "<= 180"),
}


@click.command()
@click.option("--rounds", default=ROUNDS, show_default=True, help="Times that each is measured.")
@click.option("--quick", is_flag=True, help="Two rounds, without writing RESULTS.md.")
@click.option("--alone", is_flag=True, help="Without nginx and the other router.")
def main(*, rounds: int, quick: bool, alone: bool) -> None:
    """Start all ways to the engines, and measure them in turn."""
    console = Console(stderr=True)
    found = Found(pick_ms=pick_p99_ms())
    programs = {} if alone else _programs(found, console)
    with tempfile.TemporaryDirectory() as home:
        uvloop.run(
            _measure(found, programs, Path(home), rounds=2 if quick else rounds, console=console)
        )
    report.publish(
        folder=FOLDER,
        title="Overhead of the router",
        command="make bench-router",
        figures=_figures(found),
        meanings=MEANINGS,
        details=_details(found),
        kept=not (quick or alone),
    )


def _programs(found: Found, console: Console) -> Mapping[str, Path]:
    """nginx and the other router, as far as they can be had."""
    programs = {}
    for name, get in (("nginx", installed.nginx), ("peer", installed.peer)):
        console.print(f"looking for {name}")
        try:
            programs[name] = get()
        except installed.UnobtainableError as error:
            found.missing[name] = str(error)
            console.print(f"{name} can't be had, so its figures are null: {error}")
    return programs


async def _measure(
    found: Found, programs: Mapping[str, Path], home: Path, *, rounds: int, console: Console
) -> None:
    here, there = _cores()
    os.sched_setaffinity(0, here)
    backend = Backend()
    async with contextlib.AsyncExitStack() as stack:
        engines = []
        for _ in range(2):
            server, port = await backend.listen()
            stack.callback(server.close)
            engines.append(port)
        ways = [Proxy("direct", engines[0])]
        for name in ("slipstream", *programs):
            folder = home / name
            folder.mkdir()
            ways.append(stack.enter_context(_started(name, folder, programs, engines, there)))
            found.ways[name] = Samples()
            await _until_it_answers(ways[-1])
            found.ways[name].base_mb = ways[-1].memory_mb()
        found.ways["direct"] = Samples()
        with Progress(console=console) as progress:
            task = progress.add_task("measuring in turn", total=rounds)
            for number in range(rounds):
                await _round(found, ways, backend, number=number)
                progress.advance(task)
        for way in ways[1:]:
            samples = found.ways[way.name]
            samples.stream_kb = await measure.kb_per_stream(way, backend, clients=LIVE_STREAMS)
        for number in range(CANCELS):
            streams = number % 2 == 0
            found.cancels.append(await measure.cancel_ms(ways[1], backend, stream=streams))


async def _round(found: Found, ways: Sequence[Proxy], backend: Backend, *, number: int) -> None:
    """Each load on each way; who is first changes from round to round."""
    first = number % len(ways)
    turns = [(way, found.ways[way.name]) for way in (*ways[first:], *ways[:first])]
    for way, samples in turns:
        samples.latency.append(await measure.latency(way, requests=REQUESTS))
    for way, samples in turns:
        samples.streams.append(
            await measure.streams(way, backend, clients=STREAMS, seconds=STREAM_SECONDS)
        )
    for way, samples in turns:
        samples.requests.append(await measure.requests(way, clients=CLIENTS, seconds=SECONDS))
    for way, samples in turns:
        samples.chunks.append(
            await measure.chunks(way, backend, clients=2 * CLIENTS, seconds=SECONDS)
        )
    for scraped in (number % 2 == 0, number % 2 != 0):
        seen = await measure.streams(
            ways[1], backend, clients=SCRAPED_STREAMS, seconds=STREAM_SECONDS, scraped=scraped
        )
        (found.scraped_itl if scraped else found.quiet_itl).append(seen.itl_p99)


def _started(
    name: str, home: Path, programs: Mapping[str, Path], engines: Sequence[int], cores: set[int]
) -> contextlib.AbstractContextManager[Proxy]:
    if name == "nginx":
        return proxies.nginx(home, program=programs[name], engines=engines, cores=cores)
    if name == "peer":
        return proxies.peer(home, python=programs[name], engines=engines, cores=cores)
    return proxies.slipstream(home, engines=engines, cores=cores)


async def _until_it_answers(way: Proxy) -> None:
    wire = client.request(client.body(stream=False, user="0"))
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _START_SECONDS
    while True:
        try:
            one = await Client.connect(way.port)
            await one.ask(wire)
            one.leave()
            return
        except (OSError, RuntimeError) as error:
            if loop.time() > deadline:
                log = "" if way.log is None else way.log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{way.name} does not answer: {error}\n{log}") from None
            await asyncio.sleep(0.1)


def _cores() -> tuple[set[int], set[int]]:
    """One for engines and clients, one for the routers; the same if there is but one."""
    usable = sorted(os.sched_getaffinity(0))
    return {usable[0]}, {usable[min(1, len(usable) - 1)]}


def _figures(found: Found) -> dict[str, float | str | None]:
    def of(way: str, row: str, digits: int) -> float | None:
        samples = found.ways.get(way)
        if samples is None:
            return None
        values = ROWS[row].values(samples, found.ways["direct"])
        return round(statistics.median(values), digits or None)

    return {
        "added_p50_ms": of("slipstream", "p50", 2),
        "added_p99_ms": of("slipstream", "p99", 2),
        "added_ttft_p50_ms": of("slipstream", "ttft_p50", 2),
        "requests_per_second": of("slipstream", "requests", 0),
        "chunks_per_second": of("slipstream", "chunks", 0),
        "nginx_added_p50_ms": of("nginx", "p50", 2),
        "peer_added_p50_ms": of("peer", "p50", 2),
        "peer_requests_per_second": of("peer", "requests", 0),
    }


def _details(found: Found) -> str:
    """Everything beside its target."""
    names = ("slipstream", "nginx", "peer")
    lines = [
        "| figure | target | slipstream | nginx | peer | direct | slipstream, rounds from .. to |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    direct = found.ways["direct"]
    for row in ROWS.values():
        cells = []
        for name in names:
            way = found.ways.get(name)
            cells.append("-" if way is None else _cell(row.values(way, direct)))
        plain = row.values(direct, direct)
        cells.append(_cell(plain) if "added" not in row.name else "0")
        own = sorted(row.values(found.ways["slipstream"], direct))
        lines.append(
            f"| {row.name} | {row.target} | {' | '.join(cells)} | {_shown(own[0])} .. {_shown(own[-1])} |"
        )
    for what, target, name in (
        ("memory before load, MB", "< 150", "base_mb"),
        ("memory of a live stream, KB", "<= 128", "stream_kb"),
    ):
        ways = [found.ways.get(each) for each in names]
        cells = ["-" if way is None else _shown(getattr(way, name)) for way in ways]
        lines.append(f"| {what} | {target} | {' | '.join(cells)} | | |")
    moved = [
        after - before for before, after in zip(found.quiet_itl, found.scraped_itl, strict=True)
    ]
    for what, target, values in (
        ("/metrics read every 100 ms, 64 streams: ITL p99 moves by, ms", "within 2", moved),
        ("ITL p99 of these without that, ms", "", found.quiet_itl),
        ("client leaves to request ended in the engine, ms", "<= 250", found.cancels),
    ):
        ordered = sorted(values)
        lines.append(
            f"| {what} | {target} | {_cell(values)} | | | | {_shown(ordered[0])} .. {_shown(ordered[-1])} |"
        )
    lines.append(f"| pick of a 32 KB prompt, p99, ms | <= 0.25 | {found.pick_ms:.3f} | | | | |")
    lines += ["", _BASIS]
    lines += [f"\n{name} could not be had: {why}" for name, why in found.missing.items()]
    return "\n".join(lines) + "\n"


def _cell(values: Sequence[float]) -> str:
    return _shown(statistics.median(values))


def _shown(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2f}"


_BASIS: Final = (
    'Values are medians over rounds in which all ways are measured in turn. "Added" is the difference to the '
    "direct way in the same round. Two engines and all clients share one core, and each router has another. "
    "Requests have 1.4 KB, and answers have 1 KB or events of 200 bytes.\n\n"
    f"TTFT, ITL and CPU per chunk are measured with {STREAMS} streams of 50 tokens/s. Chunks/s are measured with "
    f"{2 * CLIENTS} streams, whose next event leaves when the client has the last one. Direct requests/s and "
    "chunks/s show the limits of engines and clients. The pick is measured as processor time, everything else as "
    "wall time.\n\n"
    "Slipstream checks keys, keeps budgets, removes the usage that it requested itself, tracks prefixes and reads "
    "the engines' metrics. nginx is a plain proxy with one worker and unbuffered streams. The peer is vllm-router "
    "of requirements/bench-router.txt with `--policy round_robin`, its cheapest policy."
)


if __name__ == "__main__":
    main()
