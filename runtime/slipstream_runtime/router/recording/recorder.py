"""Ring of the newest records, in one block of memory."""

import struct
from collections.abc import Callable, Iterator
from typing import Any, Final

import xxhash

from slipstream_runtime.router.recording.flight import CAUSES, Flight, Outcome

_FORM: Final = struct.Struct("<8sdHHHBB7fII")
"""Hash of the id, arrival, service, replica, status, outcome, retries, seconds by cause, prompt and output tokens."""
MOST: Final = 131_072
"""Records that are kept: 7.5 MiB, of the newest 20 minutes at 100 requests a second."""
_NAMES: Final = 65_535
"""Most names of services or replicas. A router whose table is full begins a new ring."""
_GROW: Final = 4_096
"""Records by which the block grows, so that a quiet router takes little memory."""


class Recorder:
    """Newest records of all services of one router."""

    def __init__(self, *, now: Callable[[], float], most: int = MOST) -> None:
        self._now = now
        self._most = most
        self._block = bytearray()
        self._written = 0
        self._names: dict[str, int] = {}

    def __len__(self) -> int:
        return min(self._written, self._most)

    def add(
        self,
        flight: Flight,
        parts: tuple[float, ...],
        *,
        service: str,
        status: int,
        outcome: Outcome,
        prompt: int,
        output: int,
    ) -> None:
        """Add a request that ended now; the oldest record gives way."""
        if len(self._names) > _NAMES - 2:
            self._names.clear()
            self._written = 0
        at = self._written % self._most * _FORM.size
        if at >= len(self._block):
            self._block.extend(bytes(_FORM.size * min(_GROW, self._most)))
        _FORM.pack_into(
            self._block,
            at,
            _digest(flight.id),
            self._now() - sum(parts),
            self._number(service),
            self._number(flight.replica),
            status,
            outcome,
            min(flight.retries, 255),
            *parts,
            min(prompt, 0xFFFFFFFF),
            min(output, 0xFFFFFFFF),
        )
        self._written += 1

    def read(
        self, *, service: str | None = None, since: float = 0.0, request: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield the records of requests that arrived since a time in seconds since the epoch, the newest first."""
        names = {number: name for name, number in self._names.items()}
        wanted = None if request is None else _digest(request)
        for age in range(1, len(self) + 1):
            at = (self._written - age) % self._most * _FORM.size
            digest, arrived, of, replica, status, outcome, retries, *rest = _FORM.unpack_from(
                self._block, at
            )
            if arrived < since or (wanted is not None and digest != wanted):
                continue
            if service is not None and names[of] != service:
                continue
            seconds, (prompt, output) = rest[: len(CAUSES)], rest[len(CAUSES) :]
            yield {
                "request": digest.hex(),
                "arrived": round(arrived, 3),
                "service": names[of],
                "replica": names[replica],
                "status": status,
                "outcome": Outcome(outcome).name.lower(),
                "retries": retries,
                "seconds": {
                    str(cause): round(value, 6)
                    for cause, value in zip(CAUSES, seconds, strict=True)
                },
                "promptTokens": prompt,
                "outputTokens": output,
            }

    def _number(self, name: str) -> int:
        number = self._names.get(name)
        if number is None:
            number = self._names[name] = len(self._names)
        return number


def _digest(request_id: str) -> bytes:
    """Return 8 bytes by which a request is found again. An id may hold what its client knows, so it is not kept."""
    return xxhash.xxh3_64_digest(request_id.encode())
