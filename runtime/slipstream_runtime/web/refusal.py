"""Refusal of a request: the answer that the client gets, and the reason that the metric counts."""

import http
import json
import math
from collections.abc import Mapping
from typing import Final

import pydantic

from slipstream_runtime.web import asgi, openai
from slipstream_runtime.web.not_served import NOT_SERVED
from slipstream_runtime.web.openai import Reason

CLOSE: Final = {"connection": "close"}
"""Headers of an answer after which the connection can't be used again."""


class Refusal(Exception):  # noqa: N818 (not an error of this program)
    """Raised where a request breaks a rule, and answered by the front.

    `retry_after` is in seconds; without it, the reason decides whether the client gets the header `Retry-After`.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        reason: Reason | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = http.HTTPStatus(status)
        self.message = message
        self.reason = reason
        self.param = param
        self.headers = dict(headers or {})
        if retry_after is None and reason is not None:
            retry_after = openai.RETRY_AFTER_SECONDS.get(reason)
        if retry_after is not None:
            self.headers["retry-after"] = str(max(1, math.ceil(retry_after)))

    @property
    def content(self) -> dict[str, object]:
        """Body of the answer, in the form of the OpenAI API."""
        return openai.error(self.message, status=self.status.value, param=self.param)

    def content_at(self, path: str) -> dict[str, object]:
        """Return the body of the answer, in the form of the API that has this path."""
        if openai.is_anthropic(path):
            return openai.anthropic_error(self.message, status=self.status.value)
        return self.content

    def event(self, path: str) -> bytes:
        """Return the event that ends a stream of the API that has this path."""
        name = b"event: error\n" if openai.is_anthropic(path) else b""
        return (
            name
            + b"data: "
            + json.dumps(self.content_at(path), separators=(",", ":")).encode()
            + b"\n\n"
        )

    async def answer(self, send: asgi.Send, *, path: str = "", close: bool = False) -> None:
        """Send the refusal as a complete response; `close` closes the connection after it."""
        headers = {**self.headers, **CLOSE} if close else self.headers
        await asgi.respond_json(send, self.content_at(path), status=self.status, headers=headers)


def malformed(message: str, *, param: str | None = None) -> Refusal:
    """Return 400 for a body that no engine can read."""
    return Refusal(400, message, reason=Reason.MALFORMED, param=param)


def invalid(error: pydantic.ValidationError) -> Refusal:
    """Return 400 with the first fault that pydantic found in a body, and the field that has it."""
    first = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    return malformed(f"{field}: {first['msg']}" if field else first["msg"], param=field or None)


def unauthorized(*, close: bool = False) -> Refusal:
    """Return 401; `close` is for a request whose body was not read."""
    return Refusal(
        401,
        "The request has no valid API key. Send one as `Authorization: Bearer KEY` or `x-api-key: KEY`.",
        reason=Reason.UNAUTHORIZED,
        headers={"www-authenticate": "Bearer", **(CLOSE if close else {})},
    )


def keys_unknown() -> Refusal:
    """Return 503 while the API keys could not be read."""
    return Refusal(
        503,
        "The API keys of this service are not known yet. Retry later.",
        reason=Reason.LOADING,
        headers=CLOSE,
    )


def no_route(path: str) -> Refusal:
    """Return 404 for a path that clients can't use, with the reason if vLLM has it."""
    reason = NOT_SERVED.get(path)
    return Refusal(
        404,
        f"There is no route {path[:200]}."
        if reason is None
        else f"The route {path} is not served. {reason}",
    )


def wrong_method(path: str, method: str, *, allowed: str) -> Refusal:
    """Return 405 for a path that has another method."""
    return Refusal(
        405, f"{path} does not allow {method}. Use {allowed}.", headers={"allow": allowed}
    )


def body_late(seconds: float) -> Refusal:
    """Return 408 for a body that did not arrive in time."""
    return Refusal(
        408,
        f"The body did not arrive within {seconds:g} s.",
        reason=Reason.TIMEOUT,
        headers=CLOSE,
    )


def body_slow(pace: int) -> Refusal:
    """Return 408 for a body that came too slowly while other requests waited."""
    return Refusal(
        408,
        f"The body came slower than {pace // 1024} KiB/s while other requests waited. Send it faster, or retry later.",
        reason=Reason.TIMEOUT,
        headers=CLOSE,
    )


def prompt_too_long(tokens: int | str, *, most: int) -> Refusal:
    """Return 413 for a prompt of more tokens than spec.limits allows."""
    return Refusal(
        413,
        f"The prompt has {tokens} tokens, and this service allows {most} "
        "(spec.limits.maxPromptTokens). Shorten the prompt.",
        reason=Reason.PROMPT_TOO_LONG,
    )


def answer_late(seconds: float) -> Refusal:
    """Return 504 for an answer that was not complete in time."""
    return Refusal(504, f"The answer was not complete within {seconds:g} s.", reason=Reason.TIMEOUT)


def forbidden(model: str) -> Refusal:
    """Return 403 for a valid key that may not use this model."""
    return Refusal(403, f"This API key may not use the model `{model}`.", reason=Reason.FORBIDDEN)
