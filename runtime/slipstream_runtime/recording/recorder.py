"""Ring of the newest records, in one block of memory."""

import dataclasses
import enum
import itertools
import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from slipstream_runtime.recording.headers import digest

MOST: Final = 131_072
"""Records that are kept: 7 to 15 MiB, of the newest 20 minutes at 100 requests a second."""
MOST_RECORDS: Final = 10_000
"""Records in an answer, unless the query says otherwise."""
_NAMES: Final = 65_535
"""Most names of services or replicas. A recorder whose table is full begins a new ring."""
_GROW: Final = 4_096
"""Records by which the block grows, so that a quiet process takes little memory."""
_STREAMED: Final = 0x80
"""Bit of the outcome that marks a stream of events."""
_LARGEST: Final = 0xFFFFFFFF


class Outcome(enum.IntEnum):
    """End of a request."""

    ANSWERED = 0
    """Its client got the whole answer, which may be an error."""
    BROKEN = 1
    """Its client got a part of the answer."""
    CANCELLED = 2
    """Its client left."""


@dataclasses.dataclass(frozen=True)
class Form:
    """Fields of a record beside those of every record."""

    seconds: Mapping[str, Sequence[str]]
    """Field -> causes, of which each has seconds. Those of the first field add up to the time of the request."""
    numbers: Sequence[str] = ()
    """Fields with a number, or null where it is unknown."""

    def layout(self) -> struct.Struct:
        """Return the record's bytes: digest, arrival, service, replica, status, outcome, retries, tokens, the rest."""
        floats = sum(map(len, self.seconds.values())) + len(self.numbers)
        return struct.Struct(f"<8sdHHHBBII{floats}f")


class Recorder:
    """Newest records of one process. One thread adds; other threads may read."""

    def __init__(self, form: Form, *, now: Callable[[], float], most: int = MOST) -> None:
        self._form = form
        self._layout = form.layout()
        self._now = now
        self._most = most
        self._block = bytearray()
        self._written = 0
        self._names: dict[str, int] = {}

    def __len__(self) -> int:
        return min(self._written, self._most)

    def add(
        self,
        request_id: str,
        floats: Sequence[float],
        *,
        took: float,
        service: str,
        replica: str,
        status: int,
        outcome: Outcome,
        prompt: int,
        output: int,
        retries: int = 0,
        streamed: bool = False,
    ) -> None:
        """Add a request that ended now; the oldest record gives way. `floats` are the form's seconds and numbers."""
        if len(self._names) > _NAMES - 2:
            self._names = {}
            self._written = 0
        at = self._written % self._most * self._layout.size
        if at >= len(self._block):
            self._block.extend(bytes(self._layout.size * min(_GROW, self._most)))
        self._layout.pack_into(
            self._block,
            at,
            digest(request_id),
            self._now() - took,
            self._number(service),
            self._number(replica),
            status,
            outcome | (_STREAMED if streamed else 0),
            min(retries, 255),
            min(prompt, _LARGEST),
            min(output, _LARGEST),
            *floats,
        )
        self._written += 1

    def read(
        self, *, service: str | None = None, since: float = 0.0, request: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield the records of requests that arrived since a time in seconds since the epoch, the newest first."""
        names = {number: name for name, number in self._names.copy().items()}
        wanted = None if request is None else digest(request)
        written = self._written
        for age in range(1, min(written, self._most) + 1):
            at = (written - age) % self._most * self._layout.size
            found = self._layout.unpack_from(self._block, at)
            of, arrived, named = found[0], found[1], found[2]
            if arrived < since or (wanted is not None and of != wanted):
                continue
            if named not in names or (service is not None and names[named] != service):
                continue
            yield self._shown(found, names)

    def asked(self, query: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """Return the records that the query of a URL asks for; ValueError if it is wrong."""
        try:
            since = float(query.get("since", 0.0))
            most = int(query.get("most", MOST_RECORDS))
        except ValueError:
            raise ValueError("since and most must be numbers") from None
        records = self.read(service=query.get("service"), since=since, request=query.get("request"))
        return itertools.islice(records, max(0, most))

    def _shown(self, found: Sequence[Any], names: Mapping[int, str]) -> dict[str, Any]:
        of, arrived, service, replica, status, outcome, retries, prompt, output, *floats = found
        record = {
            "request": of.hex(),
            "arrived": round(arrived, 3),
            "service": names[service],
            "replica": names.get(replica, ""),
            "status": status,
            "outcome": Outcome(outcome & ~_STREAMED).name.lower(),
            "streamed": bool(outcome & _STREAMED),
            "retries": retries,
        }
        rest = iter(floats)
        for field, causes in self._form.seconds.items():
            # NB: causes come first, so that a short iterator loses no number.
            record[field] = {
                str(cause): round(value, 6) for cause, value in zip(causes, rest, strict=False)
            }
        record |= {"promptTokens": prompt, "outputTokens": output}
        for field, value in zip(self._form.numbers, rest, strict=True):
            record[field] = _number(value)
        return record

    def _number(self, name: str) -> int:
        number = self._names.get(name)
        if number is None:
            number = self._names[name] = len(self._names)
        return number


def _number(value: float) -> float | int | None:
    """Return a number as JSON has it; NaN is an unknown one."""
    if math.isnan(value):
        return None
    return int(value) if value.is_integer() else round(value, 3)
