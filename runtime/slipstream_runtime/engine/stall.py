"""Whether an engine that holds requests still works on them. Pure: time and readings come in as values."""

from collections.abc import Hashable


class StallTimer:
    """Timer of an engine that holds requests without a sign of work.

    A sign is any change of the reading, which the caller takes from what the engine counts at each of its steps.
    """

    def __init__(self) -> None:
        self._reading: Hashable = None
        self._since: float | None = None

    def stalled(self, reading: Hashable, *, held: int, now: float) -> float:
        """Seconds, in the clock of `now`, in which nothing changed although requests were held; 0 while idle."""
        if held == 0 or self._since is None or reading != self._reading:
            self._reading, self._since = reading, now
        return now - self._since
