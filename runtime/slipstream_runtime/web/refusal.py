"""An answer that is an error, raised where it is found and sent in the form of the OpenAI API."""

from collections.abc import Mapping
from typing import Final

import pydantic

from slipstream_runtime.web import asgi

_KINDS: Final[Mapping[int, str]] = {
    400: "BadRequestError",
    404: "NotFoundError",
    405: "BadRequestError",
    413: "BadRequestError",
    500: "InternalServerError",
    503: "ServiceUnavailableError",
}


class RefusedError(Exception):
    """The status and the message that the client gets."""

    def __init__(self, status: int, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after

    async def answer(self, send: asgi.Send) -> None:
        """Send it."""
        content = asgi.error(str(self), kind=_KINDS[self.status], status=self.status)
        headers = {} if self.retry_after is None else {"retry-after": str(self.retry_after)}
        await asgi.respond_json(send, content, status=self.status, headers=headers)


def explain(error: pydantic.ValidationError) -> str:
    """The first thing that is wrong with a body, with its place."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else str(first["msg"])
