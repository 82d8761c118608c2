"""What a route decides: which service answers, and whether its answer stands. Pure.

An answer that may yet be discarded can't be streamed: a stage that judges by confidence is asked
for a whole one. Nothing escalates after the client's first byte.
"""

import enum
import math
import re
from collections.abc import Container, Iterable, Mapping
from typing import Any, Final

import orjson

from slipstream_runtime.router import config, weights
from slipstream_runtime.router.spending import Account

Body = Mapping[str, Any]


class Reason(enum.StrEnum):
    """Why a request went on from a stage: values of the label `reason`."""

    PROMPT_TOO_LONG = "prompt_too_long"
    TOOLS = "tools"
    STRUCTURED = "structured"
    ERROR = "error"
    CUT_OFF = "cut_off"
    REFUSAL = "refusal"
    INVALID_JSON = "invalid_json"
    UNSURE = "unsure"
    CONFIDENCE_UNKNOWN = "confidence_unknown"


_REFUSAL: Final = re.compile(
    r"\s*((i['\u2019]?m sorry|i am sorry|sorry|i apologi[sz]e)[,.]? )?(but )?(as an ai\b.{0,40}?, )?"
    r"i( can['\u2019]?t| cannot| can not| won['\u2019]?t|( am|['\u2019]m) unable to)\b",
    re.IGNORECASE,
)
"""How refusals open, in English."""
_GRAMMARS: Final = (
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_grammar",
    "guided_choice",
)


def split(route: config.Route, at: float, *, among: Container[str]) -> str | None:
    """The service of a weighted route at the point `at`, from 0 up to 1; None if all weigh 0."""
    shares = {s.service: s.weight for s in route.backends if s.service in among}
    return weights.draw(shares, at)


def skipped(accept: config.Accept, body: Body, *, prompt_tokens: float) -> Reason | None:
    """Why a stage does not take a request at all; None if it does."""
    if accept.max_prompt_tokens is not None and prompt_tokens > accept.max_prompt_tokens:
        return Reason.PROMPT_TOO_LONG
    if not accept.tools and body.get("tools"):
        return Reason.TOOLS
    if not accept.structured and (
        _wants(body) == "json_schema" or any(body.get(g) for g in _GRAMMARS)
    ):
        return Reason.STRUCTURED
    return None


def stage(route: config.Route, body: Body, *, prompt_tokens: float, after: int = -1) -> int:
    """The position of the first stage past `after` that takes the request; the last takes all."""
    last = len(route.stages) - 1
    for position in range(after + 1, last):
        if skipped(route.stages[position].accept, body, prompt_tokens=prompt_tokens) is None:
            return position
    return last


def judges(route: config.Route, position: int) -> bool:
    """Whether a stage's answer must be whole before any of it is sent on."""
    last = position == len(route.stages) - 1
    return not last and route.stages[position].accept.min_confidence is not None


def probe(body: Body) -> dict[str, Any]:
    """The request as a judging stage gets it: whole, with the probabilities of its tokens."""
    asked = {
        name: value for name, value in body.items() if name not in ("stream", "stream_options")
    }
    if "messages" in body:
        return {**asked, "logprobs": True}
    return {**asked, "logprobs": body.get("logprobs") or 1}


def delivered(answer: Body, body: Body) -> dict[str, Any]:
    """The probe's answer as the client asked for it."""
    if body.get("logprobs"):
        return dict(answer)
    choices = [{**choice, "logprobs": None} for choice in answer["choices"]]
    return {**answer, "choices": choices}


def confidence(answer: Body) -> float | None:
    """The geometric mean of the token probabilities, of the choice that is least sure; None if not known."""
    means = [_mean(_logprobs(choice)) for choice in answer.get("choices") or ()]
    known = [mean for mean in means if mean is not None]
    return math.exp(min(known)) if known and len(known) == len(means) else None


def objection(
    accept: config.Accept, body: Body, *, status: int, answer: Body | None
) -> Reason | None:
    """Why a whole answer of a judging stage should not stand; None if it should.

    `answer` is None where there is none. The client's own mistakes (4xx but 408 and 429) stand:
    a larger model would refuse them, too.
    """
    if 400 <= status < 500 and status not in (408, 429):
        return None
    if status >= 300 or answer is None or not answer.get("choices"):
        return Reason.ERROR
    choices = answer["choices"]
    if any(choice.get("finish_reason") == "length" for choice in choices):
        return Reason.CUT_OFF
    if any(_refuses(choice) for choice in choices):
        return Reason.REFUSAL
    if _wants(body) is not None and not all(_valid(choice) for choice in choices):
        return Reason.INVALID_JSON
    if accept.min_confidence is None:
        return None
    sure = confidence(answer)
    if sure is None:
        return Reason.CONFIDENCE_UNKNOWN
    return Reason.UNSURE if sure < accept.min_confidence else None


def escalates(route: config.Route, position: int, reason: Reason | None, account: Account) -> bool:
    """Whether the next stage is asked; an answer that exists stands once `max_escalation` is used up.

    The account includes the present request.
    """
    if reason is None or position == len(route.stages) - 1:
        return False
    return (
        reason is Reason.ERROR or account.escalated + 1 <= route.max_escalation * account.requests
    )


def _wants(body: Body) -> str | None:
    """The kind of JSON that the request demands."""
    form = body.get("response_format")
    kind = form.get("type") if isinstance(form, Mapping) else None
    return kind if kind in ("json_object", "json_schema") else None


def _text(choice: Body) -> str:
    message = choice.get("message") or {}
    text = message.get("content") if message else choice.get("text")
    return text if isinstance(text, str) else ""


def _refuses(choice: Body) -> bool:
    message = choice.get("message") or {}
    filtered = choice.get("finish_reason") == "content_filter"
    return filtered or bool(message.get("refusal")) or _REFUSAL.match(_text(choice)) is not None


def _valid(choice: Body) -> bool:
    """Whether it is JSON, or a tool call, of which the format demands nothing."""
    if (choice.get("message") or {}).get("tool_calls"):
        return True
    try:
        orjson.loads(_text(choice))
    except orjson.JSONDecodeError:
        return False
    return True


def _logprobs(choice: Body) -> list[float]:
    found = choice.get("logprobs") or {}
    tokens: Iterable[Any] = found.get("token_logprobs") or (
        token.get("logprob") for token in found.get("content") or ()
    )
    return [float(value) for value in tokens if isinstance(value, int | float)]


def _mean(values: list[float]) -> float | None:
    """None, too, where a value is no number."""
    mean = sum(values) / len(values) if values else math.nan
    return None if math.isnan(mean) else mean
