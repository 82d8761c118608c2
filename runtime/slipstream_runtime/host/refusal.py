"""A request that is not served, as the client hears it and as the metric counts it."""

import enum
import http
from collections.abc import Mapping
from typing import Final

from slipstream_runtime.web import asgi


class Reason(enum.StrEnum):
    """Values of the label `reason`."""

    DRAINING = "draining"
    LOADING = "loading"
    MALFORMED = "malformed"
    OUTPUT_FIXED = "output_fixed"
    OUTPUT_TOO_LONG = "output_too_long"
    PROMPT_TOO_LONG = "prompt_too_long"
    QUEUE_FULL = "queue_full"
    TIMEOUT = "timeout"
    TOO_LARGE = "too_large"
    UNAUTHORIZED = "unauthorized"


_KINDS: Final = {
    400: "BadRequestError",
    401: "AuthenticationError",
    404: "NotFoundError",
    405: "MethodNotAllowedError",
    408: "TimeoutError",
    413: http.HTTPStatus(413).phrase,  # as vLLM calls it
    415: "UnsupportedMediaTypeError",
    429: "RateLimitError",
    503: "ServiceUnavailableError",
    504: "TimeoutError",
}
CLOSE: Final = {"connection": "close"}


class Refusal(Exception):  # noqa: N818 (no error of ours)
    """Raised where a rule is broken, answered by the front."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        reason: Reason | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = http.HTTPStatus(status)
        self.message = message
        self.reason = reason
        self.param = param
        self.headers = headers or {}

    @property
    def content(self) -> dict[str, object]:
        """An error in the form of the OpenAI API."""
        return asgi.error(
            self.message, kind=_KINDS[self.status], status=self.status.value, param=self.param
        )


def malformed(message: str, *, param: str | None = None) -> Refusal:
    """400 for a body that no engine could understand."""
    return Refusal(400, message, reason=Reason.MALFORMED, param=param)
