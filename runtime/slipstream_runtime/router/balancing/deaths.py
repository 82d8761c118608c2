"""Requests that engines had when they died: after two deaths, a request goes to no further engine for a while. Pure.

A request is known by the hash of its content, whoever sends it. Most are innocent, and are forgotten once answered.
"""

from collections import OrderedDict
from typing import Final

from slipstream_runtime.router.balancing.retries import MOST_RESETS

SECONDS: Final = 600.0
"""Seconds for which a request is remembered after the last death."""
_REMEMBERED: Final = 4096
"""Requests: more than some engines have at once."""


class Deaths:
    """Deaths of the engines of one service, by the requests that they had. Times are of a monotonic clock."""

    def __init__(self) -> None:
        self.known: OrderedDict[bytes, tuple[frozenset[int], float]] = OrderedDict()

    def note(self, request: bytes, *, death: int, now: float) -> None:
        """Note that an engine had the request when it died; `death` is the number of this death."""
        deaths, _ = self.known.get(request, (frozenset[int](), now))
        self.known[request] = (deaths | {death}, now)
        self.known.move_to_end(request)
        if len(self.known) > _REMEMBERED:
            self.known.popitem(last=False)

    def answered(self, request: bytes) -> None:
        """Forget a request that has a complete answer."""
        self.known.pop(request, None)

    def expire(self, *, now: float) -> None:
        """Forget what is too old."""
        while self.known:
            oldest, (_, at) = next(iter(self.known.items()))
            if now - at <= SECONDS:
                return
            del self.known[oldest]

    def count(self, request: bytes) -> int:
        """Return the deaths."""
        deaths, _ = self.known.get(request, (frozenset[int](), 0.0))
        return len(deaths)

    def forbids(self, request: bytes) -> bool:
        """Whether the request must go to no further engine."""
        return self.count(request) > MOST_RESETS
