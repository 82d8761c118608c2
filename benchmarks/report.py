"""How a benchmark reports: a table for people, one line of JSON for machines, a file for the repository."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import machine


def publish(
    *,
    folder: Path,
    title: str,
    command: str,
    figures: Mapping[str, float | str | None],
    meanings: Mapping[str, str],
    details: str = "",
    kept: bool = True,
) -> None:
    """Print the figures and write RESULTS.md, with `details` (Markdown) at its end; `kept`: whether to write it."""
    table = Table(title=title)
    for column in ("figure", "value", "what it is"):
        table.add_column(column, justify="right" if column == "value" else "left")
    for name, value in figures.items():
        table.add_row(name, _shown(value), meanings[name])
    Console(file=sys.stderr).print(table)
    rows = "\n".join(
        f"| `{name}` | {_shown(value)} | {meanings[name]} |" for name, value in figures.items()
    )
    line = json.dumps(figures)
    if kept:
        (folder / "RESULTS.md").write_text(
            f"# {title}\n\n`{command}` on {machine.describe()}.\n\n"
            f"| figure | value | what it is |\n|---|---:|---|\n{rows}\n\n```json\n{line}\n```\n"
            + (f"\n{details}" if details else "")
        )
    elif details:
        sys.stderr.write(f"{details}\n")
    sys.stdout.write(f"{line}\n")


def _shown(value: float | str | None) -> str:
    if isinstance(value, str):
        return value
    return "not measured" if value is None else f"{value:g}"
