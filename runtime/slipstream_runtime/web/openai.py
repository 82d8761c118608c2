"""OpenAI's API as every process of the data plane speaks it: paths, methods, fields, errors and Retry-After.

Nothing else in the data plane spells out a path, an error type or a Retry-After of its own.
"""

import enum
import re
from collections.abc import Mapping
from typing import Final

CHAT: Final = "/v1/chat/completions"
COMPLETIONS: Final = "/v1/completions"
RESPONSES: Final = "/v1/responses"
EMBEDDINGS: Final = "/v1/embeddings"
RERANK: Final = "/v1/rerank"
CLASSIFY: Final = "/classify"
MODELS: Final = "/v1/models"
METHODS: Final[Mapping[str, str]] = {
    CHAT: "POST",
    COMPLETIONS: "POST",
    EMBEDDINGS: "POST",
    RESPONSES: "POST",
    RERANK: "POST",
    CLASSIFY: "POST",
    MODELS: "GET",
}
"""Path -> method. The router passes on requests to these paths only; engines serve some of them."""
STORED_RESPONSE: Final = re.compile(RESPONSES + r"/resp_[\w-]+(?P<cancel>/cancel)?")
"""Path of a response that the engine stores, to read it, or to cancel it."""

OUTPUT_LIMITS: Final[Mapping[str, tuple[str, ...]]] = {
    CHAT: ("max_completion_tokens", "max_tokens"),
    COMPLETIONS: ("max_tokens",),
    RESPONSES: ("max_output_tokens",),
}
"""Path that generates -> fields of the body that limit the output tokens of an answer; the first that is set counts."""
DEFAULT_COMPLETION_TOKENS: Final = 16
"""Output tokens of a request to `COMPLETIONS` without `max_tokens`, as OpenAI documents them."""


class Reason(enum.StrEnum):
    """Values of the label `reason` of the counters of refused requests, in engines and in the router."""

    BUDGET = "budget"
    DRAINING = "draining"
    FORBIDDEN = "forbidden"
    HOLD = "hold"
    LOADING = "loading"
    MALFORMED = "malformed"
    OTHER = "other"
    OUTPUT_FIXED = "output_fixed"
    OUTPUT_TOO_LONG = "output_too_long"
    PROMPT_TOO_LONG = "prompt_too_long"
    QUEUE_FULL = "queue_full"
    SHED = "shed"
    TIMEOUT = "timeout"
    TOO_LARGE = "too_large"
    UNAUTHORIZED = "unauthorized"
    UNKNOWN_MODEL = "unknown_model"
    UPSTREAM = "upstream"


ENGINE_REASONS: Final = (
    Reason.DRAINING,
    Reason.LOADING,
    Reason.MALFORMED,
    Reason.OUTPUT_FIXED,
    Reason.OUTPUT_TOO_LONG,
    Reason.PROMPT_TOO_LONG,
    Reason.QUEUE_FULL,
    Reason.TIMEOUT,
    Reason.TOO_LARGE,
    Reason.UNAUTHORIZED,
)
"""Reasons that an engine gives; all others are the router's."""

RETRY_AFTER_SECONDS: Final[Mapping[Reason, int]] = {
    Reason.DRAINING: 1,
    Reason.HOLD: 10,
    Reason.LOADING: 5,
    Reason.QUEUE_FULL: 1,
    Reason.SHED: 1,
    Reason.UPSTREAM: 1,
}
"""Reason -> seconds of the header `Retry-After`, where the refusal does not compute them.

1 s is the least that the header can say: another replica may take the request at once. 5 s is a part of a model's
load, 10 s a part of a replica's start.
"""

_ERROR_TYPES: Final[Mapping[int, str]] = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    405: "MethodNotAllowedError",
    408: "TimeoutError",
    413: "Request Entity Too Large",  # vLLM's name
    415: "UnsupportedMediaTypeError",
    417: "BadRequestError",
    429: "RateLimitError",
    431: "BadRequestError",
    500: "InternalServerError",
    502: "BadGatewayError",
    503: "ServiceUnavailableError",
    504: "TimeoutError",
}
"""Status -> type of the error, in vLLM's words."""


def error(message: str, *, status: int, param: str | None = None) -> dict[str, object]:
    """Return the body of an error; `param` is the field of the request that is at fault."""
    return {
        "error": {
            "message": message,
            "type": _ERROR_TYPES[status],
            "param": param,
            "code": status,
        }
    }
