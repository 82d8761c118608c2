"""Exceptions of the operator.

SlipstreamError
├── PermanentError     invalid user input: becomes a condition, no retry
└── TransientError     temporary state of the cluster: retried with backoff
    ├── NotFound       HTTP 404
    │   └── KindMissing  the cluster lacks this kind
    ├── Conflict       HTTP 409: the object exists, or was changed meanwhile
    ├── Rejected       HTTP 400, 403, 422: invalid or forbidden
    └── Unavailable    no answer, a timeout, or HTTP 429 and 5xx
"""


class SlipstreamError(Exception):
    """Base of all exceptions that the operator raises."""


class PermanentError(SlipstreamError):
    """Invalid input that the user must change."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class TransientError(SlipstreamError):
    """Failure of a call that may succeed later."""


class NotFound(TransientError):
    """The object does not exist."""


class KindMissing(NotFound):
    """The cluster lacks this kind."""


class Conflict(TransientError):
    """The object exists already, or was changed meanwhile."""


class Rejected(TransientError):
    """The API server rejects the object as invalid or forbidden (HTTP 400, 403, 422)."""


class Unavailable(TransientError):
    """The server gives no usable answer."""
