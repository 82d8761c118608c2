"""What the command line shows: progress of builds, phases of a boot, tables."""

import threading
import time
from collections.abc import Iterable
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table

from dev.binaries import State, Target
from dev.cluster import Status
from dev.doctor import Check

console = Console()
errors = Console(stderr=True)


class Builds:
    """A live table of the programs being built; shows nothing if none has to be."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[Target, State, float, int]] = {}
        self._live: Live | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> "Builds":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def report(self, target: Target, state: State, seconds: float, size: int) -> None:
        begin = time.monotonic() if state == "building" else seconds
        with self._lock:
            self._rows[target.name] = (target, state, begin, size)
            if self._live is None:
                self._live = Live(console=console, get_renderable=self._table, refresh_per_second=2)
                self._live.start()

    def _table(self) -> Table:
        table = Table("program", "module", "seconds", "MB", box=None, pad_edge=False)
        for target, state, seconds, size in list(self._rows.values()):
            shown = time.monotonic() - seconds if state == "building" else seconds
            mark = (
                Spinner("dots") if state == "building" else f"{size / 1e6:.0f}" if size else state
            )
            table.add_row(target.name, target.module, f"{shown:.0f}", mark)
        return table


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
