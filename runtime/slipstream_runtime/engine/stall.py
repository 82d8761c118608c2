"""Timer of engines that hold requests without progress. Pure: time and readings are arguments."""

from collections.abc import Hashable


class StallTimer:
    """Timer of an engine that holds requests without a sign of work.

    A sign of work is any change of the reading, which the caller takes from counters that change at each engine step.
    """

    def __init__(self) -> None:
        self._reading: Hashable = None
        self._since: float | None = None

    def stalled(self, reading: Hashable, *, held: int, now: float) -> float:
        """Return the seconds in which the reading did not change while requests were held; 0 while idle."""
        if held == 0 or self._since is None or reading != self._reading:
            self._reading, self._since = reading, now
        return now - self._since
