"""Decisions of a route: the service that answers, and whether its answer is kept.

An answer that may be replaced can't be streamed, so a stage that is judged by confidence answers
whole. Nothing escalates after the client's first byte.
"""

import enum
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from slipstream_runtime.router import config
from slipstream_runtime.router.balancing import weighted
from slipstream_runtime.router.cascade.totals import RouteTotals

Body = Mapping[str, Any]


class EscalationReason(enum.StrEnum):
    """Reasons for an escalation: values of the label `reason`."""

    PROMPT_TOO_LONG = "prompt_too_long"
    TOOLS = "tools"
    STRUCTURED = "structured"
    ERROR = "error"
    REJECTED = "rejected"
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
"""Opening words of a model's refusal, in English."""
UNANSWERED: Final = frozenset({EscalationReason.ERROR, EscalationReason.REJECTED})
"""Reasons without an answer that could be kept."""
_GRAMMARS: Final = (
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_grammar",
    "guided_choice",
)


def split(route: config.Route, at: float) -> str | None:
    """Return the service that the random number `at`, from 0 to below 1, selects; None if all weights are 0."""
    return weighted.draw({share.service: share.weight for share in route.backends}, at)


def skipped(accept: config.Accept, body: Body, *, prompt_tokens: float) -> EscalationReason | None:
    """Return the reason to skip a stage; None if it takes the request."""
    if accept.max_prompt_tokens is not None and prompt_tokens > accept.max_prompt_tokens:
        return EscalationReason.PROMPT_TOO_LONG
    if not accept.tools and body.get("tools"):
        return EscalationReason.TOOLS
    if not accept.structured and (
        _json_type(body) == "json_schema" or any(body.get(g) for g in _GRAMMARS)
    ):
        return EscalationReason.STRUCTURED
    return None


def judges(route: config.Route, position: int) -> bool:
    """Whether a stage's answer must be complete before it is sent to the client."""
    last = position == len(route.stages) - 1
    return not last and route.stages[position].accept.min_confidence is not None


def probe(body: Body) -> dict[str, Any]:
    """Return the request for a judged stage: without streaming, with log probabilities."""
    fields = {
        name: value for name, value in body.items() if name not in ("stream", "stream_options")
    }
    if "messages" in body:
        return {**fields, "logprobs": True}
    return {**fields, "logprobs": body["logprobs"] if _wants_logprobs(body) else 1}


def delivered(answer: Body, body: Body) -> dict[str, Any]:
    """Return the probe's answer in the form that the client requested."""
    if _wants_logprobs(body):
        return dict(answer)
    choices = [{**choice, "logprobs": None} for choice in answer["choices"]]
    return {**answer, "choices": choices}


def confidence(answer: Body) -> float | None:
    """Return the geometric mean of the token probabilities of the least confident choice; None if unknown."""
    means = [_mean(_logprobs(choice)) for choice in answer.get("choices") or ()]
    known = [mean for mean in means if mean is not None]
    return math.exp(min(known)) if known and len(known) == len(means) else None


def failure(status: int) -> EscalationReason | None:
    """Return the reason to escalate for this status; None for a success.

    A rejected request may only exceed this stage, such as its context length. If it is the
    client's mistake, the last stage rejects it, too.
    """
    if status < 300:
        return None
    if 400 <= status < 500 and status not in (408, 429):
        return EscalationReason.REJECTED
    return EscalationReason.ERROR


def objection(accept: config.Accept, body: Body, *, answer: Body) -> EscalationReason | None:
    """Return the reason to discard a judged stage's answer; None to keep it."""
    if not answer.get("choices"):
        return EscalationReason.ERROR
    choices = answer["choices"]
    if any(choice.get("finish_reason") == "length" for choice in choices):
        return EscalationReason.CUT_OFF
    if any(_is_refusal(choice) for choice in choices):
        return EscalationReason.REFUSAL
    if _json_type(body) is not None and not all(_is_valid(choice) for choice in choices):
        return EscalationReason.INVALID_JSON
    if accept.min_confidence is None:
        return None
    sure = confidence(answer)
    if sure is None:
        return EscalationReason.CONFIDENCE_UNKNOWN
    return EscalationReason.UNSURE if sure < accept.min_confidence else None


def escalates(
    route: config.Route, reason: EscalationReason, totals: RouteTotals, *, again: bool
) -> bool:
    """Whether the request escalates; once `max_escalation` is used up, an existing answer is kept.

    The totals include the present request. `again`: one of its answers was replaced before.
    """
    if again or reason in UNANSWERED:
        return True
    return totals.escalated + 1 <= route.max_escalation * totals.requests


def _wants_logprobs(body: Body) -> bool:
    """Whether the client requested log probabilities; 0 requests those of the sampled tokens."""
    found = body.get("logprobs")
    return found is not None and found is not False


def _json_type(body: Body) -> str | None:
    """Return the type of JSON output that the request requires."""
    form = body.get("response_format")
    kind = form.get("type") if isinstance(form, Mapping) else None
    return kind if kind in ("json_object", "json_schema") else None


def _text(choice: Body) -> str:
    message = choice.get("message") or {}
    text = message.get("content") if message else choice.get("text")
    return text if isinstance(text, str) else ""


def _is_refusal(choice: Body) -> bool:
    message = choice.get("message") or {}
    filtered = choice.get("finish_reason") == "content_filter"
    return filtered or bool(message.get("refusal")) or _REFUSAL.match(_text(choice)) is not None


def _is_valid(choice: Body) -> bool:
    """Whether the choice is valid JSON, or a tool call, to which the format does not apply."""
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
    """Return the mean; None if there are no values or one is NaN."""
    mean = sum(values) / len(values) if values else math.nan
    return None if math.isnan(mean) else mean
