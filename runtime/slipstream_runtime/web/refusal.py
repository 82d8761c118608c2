"""A request that is not served, as the client hears it and as the metric counts it: the words of all engines."""

import enum
import http
from collections.abc import Mapping
from typing import Final

import pydantic

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
    403: "PermissionDeniedError",
    404: "NotFoundError",
    405: "MethodNotAllowedError",
    408: "TimeoutError",
    413: http.HTTPStatus(413).phrase,  # as vLLM calls it
    415: "UnsupportedMediaTypeError",
    417: "BadRequestError",
    429: "RateLimitError",
    431: "BadRequestError",
    500: "InternalServerError",
    502: "BadGatewayError",
    503: "ServiceUnavailableError",
    504: "TimeoutError",
}
CLOSE: Final = {"connection": "close"}


class Refusal(Exception):  # noqa: N818 (no error of ours)
    """Raised where a rule is broken, answered by the front, or by whoever has none."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        reason: enum.StrEnum | None = None,
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

    async def answer(self, send: asgi.Send, *, close: bool = False) -> None:
        """Send it as a whole response, and close the connection after it if so told."""
        headers = {**self.headers, **CLOSE} if close else self.headers
        await asgi.respond_json(send, self.content, status=self.status, headers=headers)


def malformed(message: str, *, param: str | None = None) -> Refusal:
    """400 for a body that no engine could understand."""
    return Refusal(400, message, reason=Reason.MALFORMED, param=param)


def prompt_too_long(tokens: int | str, *, most: int) -> Refusal:
    """413 for a prompt of more tokens than spec.limits allows."""
    return Refusal(
        413,
        f"The prompt has {tokens} tokens, more than the {most} that this service allows "
        "(spec.limits.maxPromptTokens): shorten it",
        reason=Reason.PROMPT_TOO_LONG,
    )


def invalid(error: pydantic.ValidationError) -> Refusal:
    """400 that tells the first thing that is wrong with a body, and its place."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return malformed(f"{place}: {first['msg']}" if place else first["msg"], param=place or None)
