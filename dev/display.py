"""Output of the command line: progress of builds, phases of a boot, tables."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Set
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

from dev.cluster import binaries
from dev.cluster.binaries import State, Target
from dev.cluster.doctor import Check
from dev.cluster.lifecycle import Status

console = Console()
errors = Console(stderr=True)


class Builds:
    """Progress of the programs being built, with an estimate; shows nothing if none has to be."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wanted: set[str] = set()
        self._begin: dict[str, float] = {}
        self._ended: dict[str, float] = {}
        self._lock = threading.Lock()
        self._progress = Progress(
            TextColumn("building"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %  {task.description}"),
            console=console,
            get_time=clock,
        )
        self._task: TaskID | None = None
        self._ticker = threading.Event()

    def __enter__(self) -> "Builds":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ticker.set()
        if self._task is not None:
            self._progress.stop()
            seconds = self._clock() - min(self._begin.values())
            console.print(f"built {', '.join(self._ended)} in {seconds:.0f} s", highlight=False)

    def report(self, target: Target, state: State, _seconds: float, _size: int) -> None:
        with self._lock:
            self._wanted.add(target.name)
            if state == "waiting":
                return
            if state == "building":
                self._begin[target.name] = self._clock()
            else:
                self._ended[target.name] = self._clock()
            if self._task is None:
                self._task = self._progress.add_task("", total=1.0)
                self._progress.start()
                threading.Thread(target=self._tick, daemon=True).start()

    def _tick(self) -> None:
        while not self._ticker.wait(1.0):
            self.update()

    def update(self) -> None:
        """Show how much is done and how long the rest will take at the speed so far."""
        with self._lock:
            done, left = estimate(self._wanted, self._begin, self._ended, now=self._clock())
            running = ", ".join(name for name in self._begin if name not in self._ended)
        assert self._task is not None
        rest = "" if left is None else f", about {max(1, round(left / 60))} min left"
        self._progress.update(self._task, completed=done, description=f"{running}{rest}")


def estimate(
    wanted: Set[str], begin: Mapping[str, float], ended: Mapping[str, float], *, now: float
) -> tuple[float, float | None]:
    """Share of the work that is done, and the seconds that the rest needs; None while unknown.

    A program that runs counts by its time at the speed of those that are done, up to nine tenths.
    """
    costs = {name: binaries.COSTS.get(name, binaries.CHEAP) for name in wanted}
    spent = sum(ended[name] - begin[name] for name in ended)
    speed = sum(costs[name] for name in ended) / spent if spent else 1.0
    done = sum(
        costs[name] if name in ended else min(0.9 * costs[name], speed * (now - begin[name]))
        for name in begin
    )
    total = sum(costs.values())
    elapsed = now - min(begin.values(), default=now)
    return done / total, elapsed * (total - done) / done if elapsed > 10 and done else None


def phase(name: str, seconds: float) -> None:
    console.print(f"[dim]{seconds:6.2f} s[/dim]  {name}")


def status(found: Status) -> None:
    colour = {"healthy": "green", "unhealthy": "red", "down": "dim"}[found.state]
    console.print(f"cluster {found.name}: [{colour}]{found.state}[/]  {found.server}")
    if not found.components:
        return
    table = Table("component", "pid", "cpu s", "memory MiB", "state", box=None, pad_edge=False)
    for one in found.components:
        memory = f"{one.memory_bytes / 2**20:.0f}"
        state = "[green]running[/]" if one.alive else "[red]dead[/]"
        table.add_row(one.name, str(one.pid), f"{one.cpu_seconds:.1f}", memory, state)
    console.print(table)


def checks(found: Iterable[Check]) -> None:
    table = Table("", "requirement", "found", "remedy", box=None, pad_edge=False)
    for check in found:
        mark = "[green]ok[/]" if check.fulfilled else "[red]no[/]"
        table.add_row(mark, check.name, check.found, "" if check.fulfilled else check.remedy)
    console.print(table)
