"""Bounds of what one request to vLLM may cost before a token is generated.

Pure: functions of the parsed body, which raise Refusal. They read numbers and lengths, never the meaning of a text.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from slipstream_runtime.host.limits import Limits
from slipstream_runtime.web import asgi, openai
from slipstream_runtime.web.media import PARTS
from slipstream_runtime.web.openai import Reason
from slipstream_runtime.web.refusal import Refusal, malformed, prompt_too_long

CHARACTERS_PER_TOKEN: Final = 16
"""Characters of a prompt for each token of the context; text has about 4, and code with deep indentation about 8."""
LEAST_TEXT: Final = 256 * 1024
"""Characters that any request may have, whatever the context, for schemas and tools."""
BATCH_TEXT: Final = 2 * 1024 * 1024
"""Characters of all prompts, where the context does not allow more. A tokenizer takes 280 bytes for each."""
_BYTES_PER_TOKEN: Final = 64
"""Bytes of a chat for each token of the context; JSON writes a character in up to 12."""
_LEAST_BODY: Final = 1024 * 1024
"""Bytes that a chat may have, whatever the context, for schemas and tools."""
_CHATS: Final = (openai.CHAT, openai.RESPONSES, openai.MESSAGES)

_INTEGERS: Final = (
    "n",
    "best_of",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "min_tokens",
    "prompt_logprobs",
    "top_logprobs",
    "truncate_prompt_tokens",
)
_LISTS: Final[Mapping[str, tuple[int, int]]] = {
    "allowed_token_ids": (1024, 0),
    "bad_words": (128, 4096),
    "logit_bias": (1024, 0),
    "logprob_token_ids": (128, 0),
    "stop": (16, 4096),
    "stop_sequences": (16, 4096),
    "stop_token_ids": (128, 0),
}
"""Field -> most items, and most characters of all of them."""
_NO_MEDIA: Final = (
    "arguments",
    "chat_template_kwargs",
    "input_schema",
    "metadata",
    "response_format",
    "tools",
)
"""Fields that hold JSON of the client's own, whose names mean nothing to vLLM."""
_TITLES: Final = ("source", "file")
"""Fields that hold media as an object, and as a text no more than a name."""
SCHEME: Final = 64
"""Characters in which a URL has its scheme."""
_URL: Final = re.compile(r"\s*[a-z][a-z0-9+.-]{0,30}:", re.IGNORECASE)
_DATA: Final = re.compile(r"data:[^,]{0,256};base64,", re.IGNORECASE)
_PROPERTIES: Final = ("properties", "$defs", "definitions")
_BRANCHES: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
_REPEATS: Final = ("minItems", "maxItems", "minLength", "maxLength", "minProperties")
_ITEMS: Final = 1000
"""Properties, and values of enums or choices, of one structure."""
_BRANCHES_MOST: Final = 256
_RULES: Final = 500
_PATTERNS: Final = 32
"""Patterns of names; each takes the compiler about 0.2 s with a vocabulary of 32,000."""
_REPEATS_MOST: Final = 10_000
_STRUCTURE: Final = 64 * 1024
"""Characters of a schema, grammar or regular expression; `spec.output` allows as many."""


def largest(path: str, *, tokens: int, media: bool) -> int:
    """Return the most bytes of a body; a chat of text has no more than its context can hold."""
    if media:
        return asgi.MEDIA_LIMIT
    if path not in _CHATS:
        return asgi.BODY_LIMIT
    return min(max(_BYTES_PER_TOKEN * tokens, _LEAST_BODY), asgi.BODY_LIMIT)


def check_integers(body: Mapping[str, Any]) -> None:
    """Raise Refusal for a number that vLLM would read as an integer and JSON does not write as one."""
    for name in _INTEGERS:
        value = body.get(name)
        # NB: vLLM reads "100" and 100.0 as 100, and True as 1.
        if value is not None and type(value) is not int:
            raise malformed(f"{name} must be a whole number.", param=name)


def check_counts(path: str, body: Mapping[str, Any], limits: Limits) -> None:
    """Raise Refusal if the request asks for more answers, probabilities or other items than one request may."""
    _at_most(answers(path, body), limits.max_answers, "n", "answers", "maxAnswers")
    asked = body.get("prompt_logprobs")
    if asked is None and body.get("echo") and type(body.get("logprobs")) is int:
        asked = body["logprobs"]
    if asked is not None:
        # NB: -1 asks for the whole vocabulary.
        most, wanted = limits.max_prompt_logprobs, asked
        if wanted < 0 or wanted > most:
            raise _too_many(
                "prompt_logprobs", asked, most, "log probabilities", "maxPromptLogprobs"
            )
    for name, (most, size) in _LISTS.items():
        value = body.get(name)
        if isinstance(value, list | dict):
            _at_most(len(value), most, name, "items")
            if size:
                _at_most(sum(map(_length, value)), size, name, "characters")
        elif isinstance(value, str):
            _at_most(len(value), size or most, name, "characters")
    for name in ("messages", "input"):
        messages = body.get(name)
        if isinstance(messages, list) and messages and isinstance(messages[0], Mapping):
            _at_most(
                sum(map(_parts, messages)), limits.max_messages, name, "messages", "maxMessages"
            )
    if isinstance(tools := body.get("tools"), list):
        _at_most(len(tools), limits.max_tools, "tools", "tools", "maxTools")


def check_text(body: Mapping[str, Any], *, tokens: int, size: int) -> None:
    """Raise Refusal if the text of a body of `size` bytes can't fit `tokens`, also where it would be truncated."""
    most = max(CHARACTERS_PER_TOKEN * tokens, LEAST_TEXT)
    if size <= most or _text(body, most) <= most:
        return
    if any(_text(prompt, most, own=name in _NO_MEDIA) > most for name, prompt in _prompts(body)):
        raise prompt_too_long(f"more than {tokens}", most=tokens)
    total = max(most, BATCH_TEXT)
    if _text(body, total) > total:
        raise Refusal(
            413,
            f"The request has more than {total} characters of text. Send less at once.",
            reason=Reason.TOO_LARGE,
        )


def check_media(body: Mapping[str, Any], *, fetches: bool, most: int) -> None:
    """Raise Refusal if the request has more than `most` media, or names one by a URL that may not be fetched."""
    found = 0
    for name, value in body.items():
        if name in _NO_MEDIA:
            continue
        for kind, text in _media(value):
            found += 1
            if not kind.endswith("url") or (fetches and text[:4].lower() == "http"):
                continue
            if text[:5].lower() != "data:" and _URL.match(text):
                raise malformed(
                    "This service takes images, audio and video only inside the request, as data: URLs.",
                    param=name,
                )
            if text[:5].lower() == "data:" and not _DATA.match(text):
                raise malformed(
                    "A data: URL must be in base64, as data:TYPE;base64,TEXT.", param=name
                )
    _at_most(found, most, "messages", "images, audio and video", "maxMedia")


def media(body: Mapping[str, Any]) -> Iterator[str]:
    """Yield the images, audio and video of a request, as texts."""
    for name, value in body.items():
        if name not in _NO_MEDIA:
            yield from (text for _, text in _media(value))


def check_structures(body: Mapping[str, Any]) -> None:
    """Raise Refusal for a structure of answers that takes the compiler long."""
    for name, structure in structures(body):
        for kind, value in structure.items():
            text = value if isinstance(value, str) else json.dumps(value)
            _at_most(len(text), _STRUCTURE, name, "characters")
            if kind == "grammar":
                _at_most(max(text.count("::="), text.count("\n")), _RULES, name, "rules")
            elif kind == "choice" and isinstance(value, list):
                _at_most(len(value), _ITEMS, name, "choices")
            elif kind in ("json", "structural_tag"):
                _check_schema(name, value)


def structures(body: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the structures of a request, as fields of vLLM's `structured_outputs`, with the name of their field."""
    own = body.get("structured_outputs")
    if isinstance(own, Mapping):
        kinds = ("json", "regex", "choice", "grammar", "structural_tag")
        yield "structured_outputs", {kind: own[kind] for kind in kinds if own.get(kind) is not None}
    text, config = body.get("text"), body.get("output_config")
    for name, wanted in (
        ("response_format", body.get("response_format")),
        ("text", text.get("format") if isinstance(text, Mapping) else None),
        ("output_config", config.get("format") if isinstance(config, Mapping) else None),
    ):
        if isinstance(wanted, Mapping):
            yield from _of_format(name, wanted)
    tools, chosen = body.get("tools"), body.get("tool_choice")
    forced = chosen not in (None, "auto", "none")
    for tool in tools if isinstance(tools, list) else ():
        if isinstance(tool, Mapping):
            function = tool.get("function", tool)
            if isinstance(function, Mapping) and (forced or function.get("strict")):
                schema = function.get("parameters", function.get("input_schema"))
                if isinstance(schema, Mapping):
                    yield "tools", {"json": schema}


def answers(path: str, body: Mapping[str, Any]) -> int:
    """Return the number of answers: the choices for each of the prompts."""
    if path not in openai.OUTPUT_LIMITS:
        return 1
    choices = 1 if body.get("n") is None else body["n"]
    if type(choices) is not int:
        raise malformed("n must be a whole number.", param="n")
    if choices < 1:
        raise malformed("n must be at least 1.", param="n")
    if path != openai.COMPLETIONS:
        return choices
    prompts = _count(body.get("prompt")) + _count(body.get("prompt_embeds"))
    return choices * max(prompts, 1)


def _of_format(name: str, wanted: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if wanted.get("type") == "structural_tag":
        yield name, {"structural_tag": dict(wanted)}
        return
    inner = wanted.get("json_schema", wanted)
    schema = inner.get("schema") if isinstance(inner, Mapping) else None
    if isinstance(schema, Mapping):
        yield name, {"json": schema}


def _check_schema(name: str, value: object) -> None:
    """Count what a schema repeats; a text is parsed, as vLLM does."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise malformed(f"{name}: the schema is not JSON.", param=name) from None
    properties = patterns = 0
    for node in _objects(value):
        properties += sum(_length(node.get(key)) for key in (*_PROPERTIES, "enum"))
        patterns += _length(node.get("patternProperties")) + ("pattern" in node)
        for key in _BRANCHES:
            _at_most(_length(node.get(key)), _BRANCHES_MOST, name, f"branches of {key}")
        for key in _REPEATS:
            if isinstance(most := node.get(key), int):
                _at_most(most, _REPEATS_MOST, name, f"repeats by {key}")
    _at_most(properties, _ITEMS, name, "properties and values of enums")
    _at_most(patterns, _PATTERNS, name, "patterns")


def _objects(value: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        yield value
        for child in value.values():
            yield from _objects(child)
    elif isinstance(value, list):
        for child in value:
            yield from _objects(child)


def _prompts(body: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Yield each prompt of a request with the name of its field; messages are one."""
    for name, value in body.items():
        if isinstance(value, list) and value and isinstance(value[0], str):
            yield from ((name, one) for one in value)
        else:
            yield name, value


def _text(value: object, most: int, *, own: bool = False) -> int:
    """Return the characters of all texts but media; it stops beyond `most`. The client's `own` JSON has no media."""
    if isinstance(value, str):
        return len(value)
    size = 0
    if isinstance(value, Mapping):
        for name, child in value.items():
            size += len(name) + _text(child, most, own=own or name in _NO_MEDIA)
            if name in PARTS and not own:
                size -= sum(len(text) for _, text in _of_part(child))
            if size > most:
                break
    elif isinstance(value, list) and not (value and isinstance(value[0], int | float)):
        for child in value:
            size += _text(child, most, own=own)
            if size > most:
                break
    return size


def _media(node: object) -> Iterator[tuple[str, str]]:
    """Yield the media in messages: the name of the field, and its text."""
    if isinstance(node, list):
        if node and isinstance(node[0], Mapping | list):
            for child in node:
                yield from _media(child)
    elif isinstance(node, Mapping) and node.get("type") != "tool_use":
        for name, value in node.items():
            if name in PARTS and not (isinstance(value, str) and name in _TITLES):
                yield from _of_part(value)
            elif name not in _NO_MEDIA:
                yield from _media(value)


def _of_part(value: object) -> Iterator[tuple[str, str]]:
    """Yield the media of one part: a text, or the one among the fields of an object."""
    if isinstance(value, str):
        yield "url", value
    elif isinstance(value, Mapping):
        for name, child in value.items():
            if name in ("url", "data", "file_data", "file_url") and isinstance(child, str):
                yield name, child


def _parts(message: object) -> int:
    content = message.get("content") if isinstance(message, Mapping) else None
    return max(1, len(content)) if isinstance(content, list) else 1


def _count(prompt: object) -> int:
    """Return the number of prompts in this field; a list of numbers is one prompt, any other list one for each item."""
    if prompt is None:
        return 0
    if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
        return len(prompt)
    return 1


def _length(value: object) -> int:
    return len(value) if isinstance(value, str | list | dict) else 0


def _at_most(found: int, most: int, name: str, what: str, field: str | None = None) -> None:
    if found > most:
        raise _too_many(name, found, most, what, field)


def _too_many(name: str, found: object, most: int, what: str, field: str | None) -> Refusal:
    where = f" (spec.limits.{field})" if field else ""
    return malformed(
        f"{name} has {found} {what}, more than the {most} that one request may have{where}. "
        "Send fewer.",
        param=name,
    )
