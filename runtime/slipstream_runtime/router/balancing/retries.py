"""Retry budget: a share of all requests, so that retries never double the load of an outage."""

from typing import Final

MOST: Final = 2
"""Retries of one request."""
MOST_RESETS: Final = 1
"""Retries of a request after engines that died while they had it: it may be the cause, so no third engine gets it."""
PAUSE_SECONDS: Final = 1.0
"""Seconds before a request goes back to a replica that failed, if there is no other; doubles with each retry."""
_SHARE: Final = 0.2
"""Retries per first attempt."""
_SAVED: Final = 100.0
"""Most retries in a burst, as when a replica dies with all its requests in flight."""


class Retries:
    """Retry budget of one service."""

    def __init__(self) -> None:
        self._left = _SAVED

    def earn(self) -> None:
        """Add the share of a request's first attempt to the budget."""
        self._left = min(_SAVED, self._left + _SHARE)

    def spend(self) -> bool:
        """Take one retry from the budget; return whether there was one."""
        if self._left < 1:
            return False
        self._left -= 1
        return True
