"""Retry budget: a share of all requests, so that retries never double the load of an outage."""

from typing import Final

MOST: Final = 2
"""Retries of one request."""
PAUSE_SECONDS: Final = 1.0
"""Before a request goes back to a replica that failed it, where there is no other; doubles with each."""
_SHARE: Final = 0.2
_SAVED: Final = 100.0
"""Retries that may come at once, as when a replica dies with all that it had in flight."""


class Retries:
    """The budget of one service."""

    def __init__(self) -> None:
        self._left = _SAVED

    def earn(self) -> None:
        """A request was sent for the first time."""
        self._left = min(_SAVED, self._left + _SHARE)

    def spend(self) -> bool:
        """Whether one more retry is in the budget, which is then taken from it."""
        if self._left < 1:
            return False
        self._left -= 1
        return True
