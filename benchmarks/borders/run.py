"""`make bench-borders`: whether one client can slow down, fail or kill what others use.

Each attack of one client runs against the real router and the real engines. Beside it, another client sends one short
request after the other. Before each attack that client is measured alone.
"""

import asyncio
import json
import math
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import click
from rich.console import Console

from benchmarks import report
from benchmarks.borders import lab as labs
from benchmarks.borders.catalogue import ATTACKS, Attack
from benchmarks.borders.victim import Seen, Victim
from benchmarks.borders.watch import MIB, Watch
from dev import paths

FOLDER: Final = Path(__file__).parent
RECORD: Final = paths.REPOSITORY / "build" / "borders" / "results.json"
"""Results of a run that has not measured all attacks yet."""
HOSTILE: Final = "hostile"
QUIET_SECONDS: Final = 4.0
FREE_SECONDS: Final = 60.0
"""Seconds within which memory is given back, and all requests are answered again."""
KEPT_MIB: Final = 64.0
"""MiB that an allocator may keep: a process that is this near to its size before has given its memory back."""
ADDED_SECONDS: Final = 0.25
_END_SECONDS: Final = 10.0
"""Seconds after its time in which an attacker ends."""
ROUTER_MIB: Final = 256
ENGINE_MIB: Final = 1024

MEANINGS: Final = {
    "attacks": "number of attacks",
    "others_p99_worst_ratio": "greatest p99 TTFT of the other client over its limit (2 x quiet + 250 ms); target 1",
    "others_failed": "requests of the other client that failed; target 0",
    "router_growth_mib": f"greatest growth of the router during an attack, MiB; target {ROUTER_MIB}",
    "engine_growth_mib": f"greatest growth of an engine during an attack, MiB; target {ENGINE_MIB}",
    "processes_lost": "processes that ended, went beyond their limit, or did not serve within a minute; target 0",
    "borders_crossed": "addresses reached, scripts passed on and budgets exceeded; target 0",
}


@dataclass
class Result:
    """Effects of one attack."""

    name: str
    attack: Attack
    quiet: Seen
    attacked: Seen
    grown: dict[str, float]
    """Process -> MiB."""
    kept: float = 0.0
    """MiB that a process did not give back within a minute, at most."""
    lost: list[str] = field(default_factory=list)
    crossed: int = 0
    """Borders that the attacker crossed."""

    def record(self) -> dict[str, Any]:
        """Return what `of` reads."""
        return {**asdict(self), "attack": None}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """Return the result that was recorded."""
        seen = {name: Seen(**record[name]) for name in ("quiet", "attacked")}
        return cls(**{**record, **seen, "attack": ATTACKS[record["name"]]})

    @property
    def ratio(self) -> float:
        return self.attacked.p99 / (2 * self.quiet.p99 + ADDED_SECONDS)

    def most(self, *, router: bool) -> float:
        return max((mib for name, mib in self.grown.items() if (name in labs.ROUTERS) == router))

    @property
    def holds(self) -> bool:
        """Whether all targets are met."""
        return (
            self.ratio <= 1
            and not self.attacked.failures
            and not self.lost
            and not self.crossed
            and self.kept == 0
            and self.most(router=True) <= ROUTER_MIB
            and self.most(router=False) <= ENGINE_MIB
        )


class Bench:
    """The lab, and who looks at it."""

    def __init__(self, lab: labs.Lab, watch: Watch) -> None:
        self._lab = lab
        self._watch = watch

    async def run(self, name: str, attack: Attack) -> Result:
        """Measure the other client alone, then beside the attack."""
        self._start()
        victim = self._victim(attack)
        await victim.once()
        quiet = await _during(victim, QUIET_SECONDS)
        watched = self._lab.watched()
        for each in watched:
            each.reset()
        before = {each.name: each.peak for each in watched}
        attacked, crossed = await self._attacked(name, attack, victim)
        dead = self._dead()
        kept, silent = await self._given_back(attack, before)
        # NB: the hostile engine is the attacker's own.
        grown = {
            each.name: (each.peak - before[each.name]) / MIB
            for each in watched
            if each.name != HOSTILE
        }
        lost = [
            each.name + (" (memory)" if each.beyond else "")
            for each in dead
            if each.name != HOSTILE
        ]
        fragile = [each for each in lost if each.startswith("fragile")]
        lost = [each for each in lost if each not in fragile[: labs.FRAGILE - labs.SPARED]]
        return Result(name, attack, quiet, attacked, grown, kept, lost + silent, crossed)

    async def _attacked(self, name: str, attack: Attack, victim: Victim) -> tuple[Seen, int]:
        """Start the attacker, and let the other client ask until it ends; also return the borders that it crossed."""
        module = "benchmarks.borders.attacker"
        attacker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, name),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert attacker.stdin is not None and attacker.stdout is not None
        attacker.stdin.write(self._lab.targets("attacker").text().encode())
        attacker.stdin.close()
        done = asyncio.Event()
        asking = asyncio.create_task(victim.until(done))
        try:
            async with asyncio.timeout(attack.seconds + _END_SECONDS):
                await attacker.wait()
        except TimeoutError:
            attacker.kill()
            await attacker.wait()
        done.set()
        crossed = (await attacker.stdout.read()).strip()
        return await asking, int(crossed or 0)

    def _start(self) -> None:
        self._lab.start()
        self._watch.at(self._lab.watched())

    def _victim(self, attack: Attack) -> Victim:
        targets = self._lab.targets("victim")
        field = "open" if attack.victim == "shared" else attack.victim
        return Victim(getattr(targets, field), kind=attack.victim)

    def _dead(self) -> list[labs.Watched]:
        return [each for each in self._lab.watched() if not each.alive]

    async def _given_back(self, attack: Attack, before: dict[str, int]) -> tuple[float, list[str]]:
        """Wait for all memory to be free and all requests to be answered; return what is missing after a minute."""
        deadline = time.monotonic() + FREE_SECONDS
        # NB: what died is started again first, or everybody would wait for it.
        dead = {each.name for each in self._dead()}
        while True:
            kept = max(
                (each.now - before[each.name]) / MIB
                for each in self._lab.watched()
                if each.name not in {*dead, HOSTILE}
            )
            answered = dead or not (await self._victim(attack).once()).failures
            if (kept <= KEPT_MIB and answered) or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.5)
        silent = [] if answered else ["engine (does not answer)"]
        if silent:
            others = [name for name in labs.OTHERS if attack.needs(name)]
            self._lab.end(next(iter(others), "engine"))
        return (0.0 if kept <= KEPT_MIB else kept), silent


async def _during(victim: Victim, seconds: float) -> Seen:
    done = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, done.set)
    return await victim.until(done)


@click.command()
@click.option(
    "--attack",
    "names",
    type=click.Choice([*ATTACKS]),
    multiple=True,
    help="Run this attack alone, without writing RESULTS.md. May be repeated.",
)
@click.option("--list", "listed", is_flag=True, help="List the attacks and end.")
@click.option(
    "--minutes",
    type=float,
    help="Start no attack after this time. `--resume` runs the others, and then writes RESULTS.md.",
)
@click.option("--resume", is_flag=True, help="Run only the attacks that an earlier run left.")
def main(*, names: Sequence[str], listed: bool, minutes: float | None, resume: bool) -> None:
    """Run all attacks of one client, one after the other, and show what they do to another client."""
    if listed:
        for name, attack in ATTACKS.items():
            click.echo(f"{name:32}{attack.text}")
        return
    results = _recorded() if resume else []
    known = {each.name for each in results}
    possible = [name for name in names or ATTACKS if labs.can_run(ATTACKS[name].needs)]
    chosen = {name: ATTACKS[name] for name in possible if name not in known}
    for result in _results(chosen, until=time.monotonic() + 60 * (minutes or math.inf)):
        results.append(result)
        if not names:
            RECORD.parent.mkdir(parents=True, exist_ok=True)
            RECORD.write_text(json.dumps([each.record() for each in results]))
    if left := len(set(possible) - {each.name for each in results}):
        raise click.ClickException(f"{left} attacks are left. Run again with --resume.")
    report.publish(
        folder=FOLDER,
        title="What one client can do to others",
        command="make bench-borders",
        figures=_figures(results),
        meanings=MEANINGS,
        details=_details(results),
        kept=not names,
    )


def _recorded() -> list[Result]:
    """Return the results of an earlier run that ended before its last attack."""
    if not RECORD.exists():
        return []
    return [Result.of(each) for each in json.loads(RECORD.read_text())]


def _results(chosen: Mapping[str, Attack], *, until: float) -> Iterator[Result]:
    """Start the lab and yield the result of each attack that starts in time."""
    console = Console(stderr=True)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        encodes, sees = (any(each.needs(one) for each in chosen.values()) for one in labs.OTHERS)
        lab = labs.Lab(
            home,
            encoder=labs.encoder(home) if encodes else None,
            vision=labs.vision(home) if sees else None,
        )
        stack.callback(lab.stop)
        bench = Bench(lab, stack.enter_context(Watch()))
        console.print("starting the engines")
        for name, attack in chosen.items():
            if time.monotonic() > until:
                return
            result = asyncio.run(bench.run(name, attack))
            console.print(" ".join(_row(result)), highlight=False)
            yield result


def _figures(results: Sequence[Result]) -> dict[str, float | str | None]:
    return {
        "attacks": len(results),
        "others_p99_worst_ratio": round(max(each.ratio for each in results), 2),
        "others_failed": sum(len(each.attacked.failures) for each in results),
        "router_growth_mib": round(max(each.most(router=True) for each in results)),
        "engine_growth_mib": round(max(each.most(router=False) for each in results)),
        "processes_lost": sum(len(each.lost) for each in results),
        "borders_crossed": sum(each.crossed for each in results),
    }


def _details(results: Sequence[Result]) -> str:
    columns = (
        "attack",
        "targets",
        "p99 TTFT quiet, ms",
        "attacked, ms",
        "requests",
        "failed",
        "router +MiB",
        "engine +MiB",
        "kept MiB",
        "lost",
        "crossed",
    )
    lines = [f"| {' | '.join(columns)} |", "|---|---|" + "---:|" * 7 + "---|---:|"]
    lines += [f"| {' | '.join(_row(each))} |" for each in results]
    return "\n".join(lines) + f"\n\n{_BASIS}\n"


def _row(result: Result) -> tuple[str, ...]:
    failed = ", ".join(f"{n} x {what}" for what, n in Counter(result.attacked.failures).items())
    return (
        result.name,
        "held" if result.holds else "missed",
        f"{1000 * result.quiet.p99:.0f}",
        f"{1000 * result.attacked.p99:.0f}",
        str(len(result.attacked.seconds)),
        failed or "0",
        f"{result.most(router=True):.0f}",
        f"{result.most(router=False):.0f}",
        f"{result.kept:.0f}",
        ", ".join(result.lost) or "-",
        str(result.crossed),
    )


_BASIS: Final = (
    "One attacker sends at most 50 requests a second, or holds at most 1,000 connections. It has a key of its own "
    "where the service has keys. It attacks for 10 to 30 s, as a process of its own on the same cores as the "
    "servers.\n\n"
    f"The other client sends one request after the other for {QUIET_SECONDS:.0f} s alone, then beside the attack. "
    "Each request has a connection of its own, and every fourth one has a JSON schema. A request fails if it gets no "
    "whole answer with status 200 within 20 s. The p99 is that of all requests that were answered or timed out.\n\n"
    f"The limits of memory are {labs.ROUTER_LIMIT // MIB} MiB for each router, as the operator sets it, "
    f"{labs.ENGINE_LIMIT // MIB} MiB for vLLM and {labs.ENCODER_LIMIT // MIB} MiB for ONNX Runtime. A process beyond "
    "its limit is killed, as in a container. Growth is that of private memory, read every 50 ms. A process has given "
    f"its memory back once it is within {KEPT_MIB:.0f} MiB of its size before. One deadly request may kill two "
    "engines of four: the first, and the one on which it is tried again. Only further ones count as lost."
)


if __name__ == "__main__":
    main()
