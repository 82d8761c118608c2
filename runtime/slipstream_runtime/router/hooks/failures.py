"""Failures of a hook, after which the request goes on unchanged, and the pause that follows several of them."""

import enum
from collections.abc import Callable
from typing import Final

FAILURES: Final = 3
"""Failures in a row after which a hook pauses, as engines are ejected."""
PAUSE_SECONDS: Final = 10.0
"""Seconds of a pause, in which requests don't wait for a service that fails; then one more failure pauses again."""


class Cause(enum.StrEnum):
    """Causes of a failure: values of the label `reason`."""

    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    STATUS = "status"
    """The service answered with an error."""
    INVALID = "invalid"
    """The answer has another form, is too large or of no use."""
    NO_KEY = "no_key"
    """The Secret with the API key is missing, or the client's key does not open the service."""
    NO_SERVICE = "no_service"
    """The service is not in the router's configuration, has no replica or no free slot."""
    TOO_LARGE = "too_large"
    """The body is so large that work on it would delay other requests."""
    NO_MEMORY = "no_memory"
    """The router has no memory for the changed request."""
    PAUSED = "paused"
    """The hook failed several times before."""
    REJECTED = "rejected"
    """The model's service refused the changed request, and got the client's own instead."""
    INTERNAL = "internal"


_OF_SERVICE: Final = frozenset({Cause.TIMEOUT, Cause.UNREACHABLE, Cause.STATUS, Cause.INVALID})
"""Causes after which other requests would fail, too."""


class HookError(Exception):
    """Raised if a hook can't change the request."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause)
        self.cause = cause


class Pauses:
    """Tenants for whom a hook is left out, because it failed several times in a row for them.

    Requests of one tenant can't cause a pause for another one.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures: dict[str, int] = {}
        self._until: dict[str, float] = {}

    def check(self, tenant: str) -> None:
        """Raise HookError during a pause."""
        if self._clock() < self._until.get(tenant, 0.0):
            raise HookError(Cause.PAUSED)

    def succeeded(self, tenant: str) -> None:
        """Note a success."""
        self._failures.pop(tenant, None)
        self._until.pop(tenant, None)

    def failed(self, tenant: str, cause: Cause) -> None:
        """Note a failure."""
        if cause not in _OF_SERVICE:
            return
        self._failures[tenant] = self._failures.get(tenant, 0) + 1
        if self._failures[tenant] >= FAILURES:
            self._until[tenant] = self._clock() + PAUSE_SECONDS
