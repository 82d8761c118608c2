"""Reports and progress of the stages of a build. They come from a tenant's pod, so every value is checked."""

import dataclasses
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from slipstream_operator.core import facts, pod_failures

_LONGEST: Final = 8_192
"""Characters of a report: the kubelet keeps 4,096 bytes of it."""
_TEXT: Final = 512
"""Characters of one text of a report."""
_SHA256: Final = re.compile("[0-9a-f]{64}")
_SECONDS: Final = 10.0**9


@dataclasses.dataclass(frozen=True)
class Report:
    """Report of a finished stage. A value that is missing or malformed is None."""

    content: Mapping[str, Any]

    def number(self, key: str) -> float | None:
        """Return a finite number."""
        return number(self.content.get(key))

    def count(self, key: str) -> int | None:
        """Return a number of bytes, items or files."""
        value = self.content.get(key)
        return value if type(value) is int and 0 <= value <= facts.LARGEST else None

    def seconds(self, key: str = "seconds") -> float | None:
        """Return a time."""
        value = self.number(key)
        return value if value is not None and 0 <= value <= _SECONDS else None

    def text(self, key: str, *, longest: int = _TEXT) -> str | None:
        """Return a text without characters that act on a terminal."""
        value = self.content.get(key)
        return (pod_failures.plain(value)[:longest] or None) if isinstance(value, str) else None

    def sha256(self, key: str) -> str | None:
        """Return a hash."""
        value = self.content.get(key)
        return value if isinstance(value, str) and _SHA256.fullmatch(value) else None

    def part(self, key: str) -> "Report":
        """Return an object inside the report; an empty one if it is missing."""
        value = self.content.get(key)
        return Report(value if isinstance(value, Mapping) else {})

    def parts(self, key: str, *, most: int) -> Iterator["Report"]:
        """Yield the objects of a list."""
        value = self.content.get(key)
        for entry in value[:most] if isinstance(value, list) else ():
            if isinstance(entry, Mapping):
                yield Report(entry)

    def texts(self, key: str, *, most: int) -> dict[str, str]:
        """Return an object of texts by name."""
        part = self.part(key)
        found = {}
        for name in sorted(map(str, part.content))[:most]:
            value = part.text(name)
            if value is not None and (shown := pod_failures.plain(name)[:_TEXT]):
                found[shown] = value
        return found


def parse(message: str) -> Report | None:
    """Return the report in a termination message; None if it has none."""
    if len(message) > _LONGEST:
        return None
    try:
        content = json.loads(message)
    except (ValueError, RecursionError):
        return None
    return Report(content) if isinstance(content, dict) else None


def number(value: object) -> float | None:
    """Return a finite number; None for all else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


@dataclasses.dataclass(frozen=True)
class Progress:
    """Progress of a running stage. None is unknown."""

    stage: str | None = None
    done: float | None = None
    total: float | None = None
    eta: float | None = None
    """Seconds."""
    loss: float | None = None

    @property
    def share(self) -> float | None:
        """Return the share that is done."""
        if not self.total or self.done is None or self.done < 0 or self.total < 0:
            return None
        return min(self.done / self.total, 1.0)


def parse_progress(content: object) -> Progress:
    """Return the progress from a pod's response."""
    if not isinstance(content, Mapping):
        return Progress()
    report = Report(content)
    return Progress(
        stage=report.text("stage"),
        done=report.number("done"),
        total=report.number("total"),
        eta=report.seconds("etaSeconds"),
        loss=report.number("loss"),
    )
