"""The operator's errors.

SlipstreamError
├── PermanentError     the user's input can't work: becomes a condition, no retry
└── TransientError     the world isn't ready: retried with backoff
    ├── NotFound       HTTP 404
    │   └── KindMissing  the cluster does not have this kind of object
    ├── Conflict       HTTP 409: someone else changed or owns it
    ├── Rejected       HTTP 400, 403, 422: refused as invalid or forbidden
    └── Unavailable    no answer, a time-out, or HTTP 429 and 5xx
"""


class SlipstreamError(Exception):
    """Base of all errors that the operator raises on purpose."""


class PermanentError(SlipstreamError):
    """The input can't work until the user changes it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class TransientError(SlipstreamError):
    """The same call may succeed later."""


class NotFound(TransientError):
    """The object isn't there."""


class KindMissing(NotFound):
    """The cluster does not have this kind of object."""


class Conflict(TransientError):
    """The object exists already, or changed under us."""


class Rejected(TransientError):
    """The API server refuses the object as invalid or forbidden (HTTP 400, 403, 422)."""


class Unavailable(TransientError):
    """No usable answer."""
