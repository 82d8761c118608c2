"""Decisions of a route: the service that answers, and whether its answer is kept. Pure.

An answer that may yet be replaced can't be streamed: a stage that judges by confidence is asked
for a whole one. Nothing escalates after the client's first byte.
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


class Reason(enum.StrEnum):
    """Why a request went on from a stage: values of the label `reason`."""

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
"""How refusals open, in English."""
UNANSWERED: Final = frozenset({Reason.ERROR, Reason.REJECTED})
"""There is nothing that could stand."""
_GRAMMARS: Final = (
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_grammar",
    "guided_choice",
)


def split(route: config.Route, at: float) -> str | None:
    """The service of a weighted route at the point `at`, from 0 up to 1; None if all weigh 0."""
    return weighted.draw({share.service: share.weight for share in route.backends}, at)


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
    return {**asked, "logprobs": body["logprobs"] if _wants_logprobs(body) else 1}


def delivered(answer: Body, body: Body) -> dict[str, Any]:
    """The probe's answer as the client asked for it."""
    if _wants_logprobs(body):
        return dict(answer)
    choices = [{**choice, "logprobs": None} for choice in answer["choices"]]
    return {**answer, "choices": choices}


def confidence(answer: Body) -> float | None:
    """The geometric mean of the token probabilities, of the choice that is least sure; None if not known."""
    means = [_mean(_logprobs(choice)) for choice in answer.get("choices") or ()]
    known = [mean for mean in means if mean is not None]
    return math.exp(min(known)) if known and len(known) == len(means) else None


def failure(status: int) -> Reason | None:
    """Why an answer with this status does not stand; None for an answer that is one.

    A request that is rejected may be one that this stage can't take, such as a prompt longer than
    its context; if it is the client's mistake, the last stage says so.
    """
    if status < 300:
        return None
    return Reason.REJECTED if 400 <= status < 500 and status not in (408, 429) else Reason.ERROR


def objection(accept: config.Accept, body: Body, *, answer: Body) -> Reason | None:
    """Why a whole answer of a judging stage should not stand; None if it should."""
    if not answer.get("choices"):
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


def escalates(route: config.Route, reason: Reason, totals: RouteTotals, *, again: bool) -> bool:
    """Whether the next stage is asked; an answer that exists stands once `max_escalation` is used up.

    The account includes the present request; `again`: an answer of it was replaced before.
    """
    if again or reason in UNANSWERED:
        return True
    return totals.escalated + 1 <= route.max_escalation * totals.requests


def _wants_logprobs(body: Body) -> bool:
    """0 asks for them, too: for those of the tokens that were drawn alone."""
    found = body.get("logprobs")
    return found is not None and found is not False


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
