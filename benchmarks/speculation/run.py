"""`make bench-speculation`: engines that choose their draft tokens, beside none and beside each fixed number of them.

All engines run side by side and are measured in turn, in another order each round, so that what the machine does
meanwhile befalls all of them. An engine is compared with the others of its round.
"""

import asyncio
import random
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click
import httpx
from rich.console import Console
from rich.progress import Progress

from benchmarks import report, servers
from benchmarks.servers import Server
from dev import metrics
from dev.models import heldout
from slipstream_runtime import contract
from slipstream_runtime.evaluate import load, traffic
from tests.support import engines

FOLDER = Path(__file__).parent
MODELS = servers.MODEL.parent
TOKENS: Final = 4
CLIENTS: Final = (1, 4, 8, 16, 32)
ROUNDS: Final = 16
SECONDS: Final[Mapping[int, float]] = {1: 2.0, 4: 2.0, 8: 2.5, 16: 3.0, 32: 4.0}
"""Seconds of each measurement: at least two responses of each client."""
LEARNING: Final = 40.0
"""Seconds of each load before the first measurement."""
OUTPUT: Final = 96
"""Output tokens of a request."""
KEPT: Final = 4
"""Rounds after which fixed numbers that are far from the best are left out."""
FAR: Final = 0.88
"""Share of the best fixed number's speed below which another one is left out."""
NONE, GOOD, BAD = "none", "good draft", "bad draft"
STOCK: Final = {"scheduler-cls": "vllm.v1.core.sched.scheduler.Scheduler"}
"""vLLM's own scheduler, which always drafts the same number of tokens."""

MEANINGS: Final = {
    "worst_ratio_to_none": "output tokens/s over those of an engine without speculation: lowest of both drafts and "
    "all loads, median of rounds (promise: at least 0.98)",
    "worst_ratio_to_best_fixed": "the same over the best fixed number of draft tokens at each load, 0 to 4, of which "
    "a fixed 0 is an engine without speculation (promise: at least 0.95)",
}


@dataclass
class Rounds:
    """Output tokens per second of each engine in each round, at one load."""

    speeds: list[dict[str, float]] = field(default_factory=list)

    def ratio(self, name: str, other: str) -> float:
        """Median over the rounds in which both were measured."""
        return statistics.median(
            found[name] / found[other] for found in self.speeds if {name, other} <= found.keys()
        )

    def best_fixed(self, names: tuple[str, ...]) -> str:
        """The fastest of the engines with a fixed number."""
        return max(names, key=lambda name: self.ratio(name, NONE))

    def far(self, names: tuple[str, ...]) -> set[str]:
        """Engines with a fixed number that is certainly not the best."""
        if len(self.speeds) < KEPT:
            return set()
        best = self.best_fixed(names)
        return {name for name in names if self.ratio(name, best) < FAR and name != NONE}


@click.command()
@click.option("--rounds", default=ROUNDS, show_default=True, help="Measurements of each engine.")
@click.option("--learning", default=LEARNING, show_default=True, help="Seconds at each load.")
@click.option("--clients", default=list(CLIENTS), multiple=True, type=int, help="Loads.")
@click.option("--keep/--no-keep", default=True, help="Write RESULTS.md.")
def main(*, rounds: int, learning: float, clients: tuple[int, ...], keep: bool) -> None:
    """Measure all engines at each load."""
    with ExitStack() as stack:
        running = dict(_engines(stack))
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task("rounds", total=rounds * len(clients))
            for count in clients:
                for name in (GOOD, BAD):
                    _speed(running[name], count, learning)
                for server in running.values():
                    _speed(server, count, 1.0)
            found: dict[int, Rounds] = {count: Rounds() for count in clients}
            for number in range(rounds):
                for count in clients:
                    found[count].speeds.append(_round(running, found[count], count, number))
                    progress.advance(task)
        choices = {name: _choices(running[name]) for name in (GOOD, BAD)}
    fixed = _fixed()
    figures = {
        "worst_ratio_to_none": min(
            at.ratio(name, NONE) for at in found.values() for name in (GOOD, BAD)
        ),
        "worst_ratio_to_best_fixed": min(
            *(at.ratio(GOOD, at.best_fixed(fixed)) for at in found.values()),
            *(at.ratio(BAD, NONE) for at in found.values()),
        ),
    }
    report.publish(
        folder=FOLDER,
        title="Speculation by measured gain, beside none and beside fixed numbers of draft tokens",
        command="make bench-speculation",
        figures={name: round(value, 3) for name, value in figures.items()},
        meanings=MEANINGS,
        details=_details(found, choices, rounds=rounds, learning=learning),
        kept=keep,
    )


def _fixed() -> tuple[str, ...]:
    return (NONE, *(f"fixed {tokens}" for tokens in range(1, TOKENS + 1)))


def _engines(stack: ExitStack) -> Iterator[tuple[str, Server]]:
    """Start all engines and yield them by name."""
    bad = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    engines.write_noise(bad / "noise", like=MODELS / "draft")
    configs: dict[str, dict[str, Any]] = {
        NONE: {},
        GOOD: {"speculation": _speculation(MODELS / "draft", TOKENS)},
        BAD: {"speculation": _speculation(bad / "noise", TOKENS)},
    }
    for tokens in range(1, TOKENS + 1):
        speculation = _speculation(MODELS / "draft", tokens)
        configs[f"fixed {tokens}"] = {"speculation": speculation, "engineArgs": STOCK}
    for name, config in configs.items():
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        yield name, stack.enter_context(servers.slipstream(home, config=config))


def _speculation(draft: Path, tokens: int) -> dict[str, Any]:
    return {"draft": f"file://{draft}", "tokens": tokens}


def _round(
    running: Mapping[str, Server], before: Rounds, clients: int, number: int
) -> dict[str, float]:
    far = before.far(_fixed()) if before.speeds else set()
    names = [name for name in running if name not in far]
    random.Random(number * 100 + clients).shuffle(names)
    return {name: _speed(running[name], clients, SECONDS[clients]) for name in names}


def _speed(server: Server, clients: int, seconds: float) -> float:
    """Output tokens per second under load."""
    plan = traffic.Plan(
        url=server.url,
        model=servers.NAME,
        concurrency=clients,
        duration=seconds,
        prompts=_prompts(),
        max_tokens=OUTPUT,
        ignore_eos=True,
    )
    summary = asyncio.run(load.run(plan)).summary
    if summary.failed:
        raise RuntimeError(f"{summary.failed} of {summary.requests} requests failed: {server.url}")
    return summary.output_tokens / summary.seconds


def _prompts() -> tuple[traffic.Body, ...]:
    return tuple(
        {"messages": [{"role": "user", "content": item["prompt"]}], "temperature": 0}
        for item in heldout.read()
    )


def _choices(server: Server) -> dict[int, tuple[float, float | None]]:
    """Draft tokens in use and their gain, by largest batch size, as the engine reports them."""
    page = httpx.get(server.metrics).raise_for_status().text

    def by_batch(name: str) -> dict[int, float]:
        return {
            int(sample.labels[contract.BATCH_LABEL]): sample.value
            for sample in metrics.samples(page, name)
        }

    gains = by_batch(contract.SPECULATION_BATCH_GAIN)
    return {
        batch: (tokens, gains.get(batch))
        for batch, tokens in sorted(by_batch(contract.SPECULATION_TOKENS).items())
    }


def _details(
    found: Mapping[int, Rounds],
    choices: Mapping[str, Mapping[int, tuple[float, float | None]]],
    *,
    rounds: int,
    learning: float,
) -> str:
    fixed = _fixed()
    lines = [
        (
            f"Closed loops of 1 to 32 clients, {OUTPUT} output tokens a request, {rounds} rounds after {learning:g} s "
            "of each load. The clients run on the same cores. Output tokens per second over those of the engine "
            "without speculation in the same round, median of rounds:"
        ),
        "",
        "| clients | good draft | bad draft | "
        + " | ".join(name for name in fixed if name != NONE)
        + " | good draft over the best fixed number |",
        "|---:" * (4 + TOKENS) + "|",
    ]
    for clients, at in found.items():
        names = (GOOD, BAD, *fixed[1:])
        best = at.best_fixed(fixed)
        row = " | ".join(f"{at.ratio(name, NONE):.3f}" for name in names)
        lines.append(f"| {clients} | {row} | {at.ratio(GOOD, best):.3f} ({best}) |")
    lines += ["", "At the end, the engines reported these draft tokens and gains:", ""]
    lines += ["| batch size up to | good draft | bad draft |", "|---:|---:|---:|"]
    for batch in sorted({batch for chosen in choices.values() for batch in chosen}):
        cells = (_cell(choices[name].get(batch)) for name in (GOOD, BAD))
        lines.append(f"| {batch} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(choice: tuple[float, float | None] | None) -> str:
    if choice is None:
        return "-"
    tokens, gain = choice
    return f"{tokens:g} tokens, " + ("gain unknown" if gain is None else f"gain {gain:.2f}")


if __name__ == "__main__":
    main()
