"""Checks of requests to vLLM against the service's limits and its output.

Pure: they take a body and return the fields to set in it.
"""

import sys
from collections.abc import Mapping
from typing import Any, Final

from slipstream_runtime import contract
from slipstream_runtime.engine import bounds
from slipstream_runtime.engine.output import Output
from slipstream_runtime.host.limits import Limits
from slipstream_runtime.web import openai
from slipstream_runtime.web.openai import Reason
from slipstream_runtime.web.refusal import Refusal, malformed

_ENDLESS: Final = ("ignore_eos", "min_tokens")
"""Fields that make an answer continue after the end of its structure."""


class Requests:
    """Rule of the front for requests to vLLM."""

    def __init__(
        self,
        *,
        limits: Limits,
        context: int,
        output: Output | None,
        stores: bool = False,
        reaches_store: bool = True,
        media: bool = True,
        fetches: bool = False,
    ) -> None:
        self._limits = limits
        self._most = limits.max_output_tokens
        self._tokens_read = min(context, limits.max_prompt_tokens or context)
        self._media = media
        self._fetches = fetches
        self._context = context
        self._stores = stores
        self._reaches_store = reaches_store
        self._output = output or Output()
        self._structure = self._output.structure

    def largest(self, path: str) -> int:
        """Return the most bytes of a body."""
        return bounds.largest(path, tokens=self._tokens_read, media=self._media)

    def __call__(
        self, path: str, body: Mapping[str, Any], size: int = sys.maxsize
    ) -> Mapping[str, object]:
        """The fields to set in the body, which has at most `size` bytes; raises Refusal."""
        bounds.check_integers(body)
        if path in openai.OUTPUT_LIMITS:
            bounds.check_structures(body)
        bounds.check_text(body, tokens=self._tokens_read, size=size)
        bounds.check_media(body, fetches=self._fetches, most=self._limits.max_media)
        if path not in openai.OUTPUT_LIMITS:
            return {}
        _check_vllms_blind_spots(body)
        bounds.check_counts(path, body, self._limits)
        fields: dict[str, object] = {}
        if path == openai.RESPONSES:
            fields |= self._stored(body)
        if self._most is not None:
            fields |= self._tokens(path, body, most=self._most)
        if self._structure is not None:
            fields |= self._structured(path, body, structure=self._structure)
        if self._output.stop:
            fields |= self._stopped(path, body)
        return fields

    def _stored(self, body: Mapping[str, Any]) -> Mapping[str, object]:
        """Refuse a response that is stored where no later request finds it, and one that continues it."""
        if self._stores and self._reaches_store:
            return {}
        for name in ("background", "store"):
            if body.get(name) is True:
                raise _not_stored(name, elsewhere=self._stores)
        if not self._stores:
            return {}
        if body.get("previous_response_id") is not None:
            raise _not_stored("previous_response_id", elsewhere=True)
        return {"store": False}  # vLLM would keep it in its memory

    def _tokens(self, path: str, body: Mapping[str, Any], *, most: int) -> Mapping[str, object]:
        name, requested = _first(body, openai.OUTPUT_LIMITS[path])
        answers = bounds.answers(path, body)
        if requested is None:
            share = min(most // answers, self._context)
            if share == 0:
                raise Refusal(
                    400,
                    f"The request asks for {answers} answers, which together may have {most} tokens "
                    "(spec.limits.maxOutputTokens). Ask for fewer answers.",
                    reason=Reason.OUTPUT_TOO_LONG,
                    param="n",
                )
            if path == openai.COMPLETIONS and share >= openai.DEFAULT_COMPLETION_TOKENS:
                return {}
            return {name: share}
        if requested * answers > most:
            each = f"{answers} times {requested}" if answers > 1 else f"{requested}"
            raise Refusal(
                400,
                f"{name} asks for {each} output tokens, more than the {most} that this service allows "
                "(spec.limits.maxOutputTokens). Ask for fewer.",
                reason=Reason.OUTPUT_TOO_LONG,
                param=name,
            )
        return {}

    def _structured(
        self, path: str, body: Mapping[str, Any], *, structure: Mapping[str, Any]
    ) -> Mapping[str, object]:
        own = _own_structures(path, body)
        if self._output.enforce:
            others = [name for name, wanted in own.items() if wanted != structure]
            others += [name for name in _ENDLESS if body.get(name)]
            if others:
                raise _fixed(others[0], "the structure of the answers")
        if own:
            return {}
        if path == openai.MESSAGES:
            return _output_config(body, structure)
        return {"structured_outputs": structure}

    def _stopped(self, path: str, body: Mapping[str, Any]) -> Mapping[str, object]:
        name = "stop_sequences" if path == openai.MESSAGES else "stop"
        stop = list(self._output.stop)
        own = body.get(name)
        if not own:
            return {name: stop}
        if self._output.enforce and ([own] if isinstance(own, str) else own) != stop:
            raise _fixed(name, "the stop sequences")
        return {}


def _check_vllms_blind_spots(body: Mapping[str, Any]) -> None:
    """Raise Refusal for invalid requests that vLLM would answer with 500."""
    if not isinstance(body.get("structured_outputs"), Mapping | None):
        raise malformed("structured_outputs must be an object.", param="structured_outputs")
    for name, value in body.items():
        # NB: numbers are sent to the engine core in 64 bits.
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise malformed(f"{name} does not fit into 64 bits.", param=name)


def _not_stored(name: str, *, elsewhere: bool) -> Refusal:
    """Return 400 for a response that the client wants stored, and that would not be, or not be found again."""
    if elsewhere:
        problem = "responses are stored in one replica, and requests reach any of them"
        remedy = "have the service use spec.routing.mode: Router, or send the whole conversation as `input`"
    else:
        problem = "this service stores no responses"
        remedy = f"set {contract.STORE_VARIABLE}=1 in spec.template.env"
    return malformed(
        f"{name}: can't work because {problem}. Leave it out, or {remedy}.", param=name
    )


def _fixed(name: str, what: str) -> Refusal:
    return Refusal(
        400,
        f"{name}: this service has fixed {what} (spec.output.enforce). Leave it out.",
        reason=Reason.OUTPUT_FIXED,
        param=name,
    )


def _first(body: Mapping[str, Any], names: tuple[str, ...]) -> tuple[str, int | None]:
    """Return the first of these fields that is set, and its value."""
    for name in names:
        if body.get(name) is not None:
            return name, _whole(body, name)
    return names[0], None


def _whole(body: Mapping[str, Any], name: str) -> int:
    value = body[name]
    # NB: vLLM reads "100" and 100.0 as 100, and True as 1, so the limit has to cover those values, too.
    if type(value) is not int:
        raise malformed(f"{name} must be a whole number.", param=name)
    return value


def _output_config(body: Mapping[str, Any], structure: Mapping[str, Any]) -> Mapping[str, object]:
    """Return the structure in the form of Anthropic's API, which has JSON schemas only."""
    if "json" not in structure:
        raise malformed(
            f"{openai.MESSAGES} can't work because this service gives its answers a structure by "
            f"spec.output.{next(iter(structure))}, which this API lacks. Use {openai.CHAT}."
        )
    own = body.get("output_config")
    kept = own if isinstance(own, Mapping) else {}
    return {
        "output_config": {**kept, "format": {"type": "json_schema", "schema": structure["json"]}}
    }


def _own_structures(path: str, body: Mapping[str, Any]) -> dict[str, Mapping[str, Any] | None]:
    """Return the fields that give the answers another structure, and that structure where it can be compared."""
    found: dict[str, Mapping[str, Any] | None] = {}
    if (own := body.get("structured_outputs")) is not None:
        found["structured_outputs"] = own
    if (wanted := body.get("response_format")) is not None:
        found["response_format"] = _comparable(wanted)
    if path == openai.RESPONSES and (text := body.get("text")) is not None:
        wanted = text.get("format") if isinstance(text, Mapping) else text
        if wanted is not None:
            found["text"] = _comparable(wanted)
    config = body.get("output_config") if path == openai.MESSAGES else None
    if isinstance(config, Mapping) and (wanted := config.get("format")) is not None:
        found["output_config"] = _comparable(wanted)
    choice = body.get("tool_choice")
    if body.get("tools") and choice not in ("none", {"type": "none"}):
        found["tools"] = None
    if body.get("use_beam_search"):
        # NB: vLLM's beam search ignores structured outputs.
        found["use_beam_search"] = None
    return found


def _comparable(wanted: object) -> Mapping[str, Any] | None:
    """Return OpenAI's json_schema as vLLM's structured_outputs; None for other formats."""
    if not isinstance(wanted, Mapping) or wanted.get("type") != "json_schema":
        return None
    inner = wanted.get("json_schema", wanted)
    schema = inner.get("schema") if isinstance(inner, Mapping) else None
    return {"json": schema} if isinstance(schema, Mapping) else None
