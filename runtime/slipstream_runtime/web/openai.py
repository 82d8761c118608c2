"""API of every process of the data plane, as vLLM serves it: paths, methods, fields, errors and Retry-After.

Nothing else in the data plane spells out a path, an error type or a Retry-After of its own.
"""

import dataclasses
import enum
import http
import re
from collections.abc import Mapping
from typing import Final

CHAT: Final = "/v1/chat/completions"
COMPLETIONS: Final = "/v1/completions"
RESPONSES: Final = "/v1/responses"
MESSAGES: Final = "/v1/messages"
COUNT_TOKENS: Final = "/v1/messages/count_tokens"
EMBEDDINGS: Final = "/v1/embeddings"
EMBED: Final = "/v2/embed"
RERANK: Final = "/v1/rerank"
RERANKS: Final = ("/rerank", RERANK, "/v2/rerank")
SCORE: Final = "/v1/score"
SCORES: Final = ("/score", SCORE)
CLASSIFY: Final = "/classify"
POOLING: Final = "/pooling"
TOKENIZE: Final = "/tokenize"
DETOKENIZE: Final = "/detokenize"
TRANSCRIPTIONS: Final = "/v1/audio/transcriptions"
TRANSLATIONS: Final = "/v1/audio/translations"
MODELS: Final = "/v1/models"
HEALTH: Final = "/health"


@dataclasses.dataclass(frozen=True)
class Form:
    """Form of a POST request to a model, and how it is counted."""

    tasks: frozenset[str] = frozenset()
    """Tasks of vLLM's `get_supported_tasks`, of which the model needs one. Empty: every model serves the path."""
    computes: bool = True
    """Whether the model computes for it. Else it has no budget, and counts in no latency."""
    uploads: bool = False
    """Whether its body is `multipart/form-data` with a file, not JSON."""
    output_limits: tuple[str, ...] = ()
    """Fields of the body that limit the output tokens of an answer; the first that is set counts."""


_GENERATE: Final = frozenset({"generate"})
_SCORING: Final = frozenset({"classify", "embed", "token_embed"})
_POOLING: Final = frozenset(
    {"classify", "embed", "embed&token_classify", "plugin", "token_classify", "token_embed"}
)
_SPEECH: Final = Form(
    frozenset({"transcription"}), uploads=True, output_limits=("max_completion_tokens",)
)
FORMS: Final[Mapping[str, Form]] = {
    CHAT: Form(_GENERATE, output_limits=("max_completion_tokens", "max_tokens")),
    COMPLETIONS: Form(_GENERATE, output_limits=("max_tokens",)),
    RESPONSES: Form(_GENERATE, output_limits=("max_output_tokens",)),
    MESSAGES: Form(_GENERATE, output_limits=("max_tokens",)),
    COUNT_TOKENS: Form(_GENERATE, computes=False),
    EMBEDDINGS: Form(frozenset({"embed"})),
    EMBED: Form(frozenset({"embed"})),
    **dict.fromkeys((*RERANKS, *SCORES), Form(_SCORING)),
    CLASSIFY: Form(frozenset({"classify"})),
    POOLING: Form(_POOLING),
    TRANSCRIPTIONS: _SPEECH,
    TRANSLATIONS: _SPEECH,
    TOKENIZE: Form(computes=False),
    DETOKENIZE: Form(computes=False),
}
"""Path -> form of the requests that name a model. The router passes on no others, besides those that read a stored
response. An engine serves the paths of its model's tasks."""

STORED_RESPONSE: Final = re.compile(RESPONSES + r"/(?P<id>resp_[\w-]+)(?P<cancel>/cancel)?")
"""Path of a response that the engine stores, to read it, or to cancel it."""
STORED_QUERY: Final = ("starting_after", "stream")
"""Fields of the query of `STORED_RESPONSE`."""
MODEL: Final = re.compile(MODELS + r"/(?P<id>.+)")
"""Path of one model; a name may have slashes."""
METHODS: Final[Mapping[str, str]] = {**dict.fromkeys(FORMS, "POST"), MODELS: "GET", HEALTH: "GET"}
"""Path -> method."""
OUTPUT_LIMITS: Final[Mapping[str, tuple[str, ...]]] = {
    path: form.output_limits for path, form in FORMS.items() if form.output_limits
}
"""Path that generates -> its `Form.output_limits`."""
DEFAULT_COMPLETION_TOKENS: Final = 16
"""Output tokens of a request to `COMPLETIONS` without `max_tokens`, as OpenAI documents them."""


def method(path: str) -> str | None:
    """Return the method of a path of the API; None if there is no such path."""
    if (found := METHODS.get(path)) is not None:
        return found
    if (stored := STORED_RESPONSE.fullmatch(path)) is not None:
        return "POST" if stored["cancel"] else "GET"
    return "GET" if MODEL.fullmatch(path) else None


def is_anthropic(path: str) -> bool:
    """Whether the path belongs to Anthropic's API, which has its own form of errors."""
    return path in (MESSAGES, COUNT_TOKENS)


class Reason(enum.StrEnum):
    """Values of the label `reason` of the counters of refused requests, in engines and in the router."""

    BUDGET = "budget"
    DRAINING = "draining"
    ENGINE_DIED = "engine_died"
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
    Reason.FORBIDDEN,
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
    414: "BadRequestError",
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


def phrase(status: int) -> str:
    """Return the words of the status."""
    return http.HTTPStatus(status).phrase


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


_ANTHROPIC_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
"""Status -> type of the error in Anthropic's API, where it is neither the client's nor the server's general one."""


def anthropic_error(message: str, *, status: int) -> dict[str, object]:
    """Return the body of an error in the form of Anthropic's API."""
    general = "api_error" if status >= 500 else "invalid_request_error"
    return {
        "type": "error",
        "error": {"type": _ANTHROPIC_TYPES.get(status, general), "message": message},
    }
