"""Waits for a condition, with a deadline and a reason for the error."""

import time
from collections.abc import Callable
from pathlib import Path

from dev.errors import DevError


def until(
    condition: Callable[[], bool],
    *,
    seconds: float,
    what: str,
    log: Path | None = None,
    remedy: str | None = None,
    interval: float = 0.05,
) -> None:
    """Poll until the condition holds; raise once the deadline has passed."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise DevError(f"{what}: not within {seconds:.0f} s", log=log, remedy=remedy)
        time.sleep(interval)
