"""Conversion of OpenAI answers between a whole body and the chunks of a stream."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import orjson

DONE: Final = b"data: [DONE]\n\n"
_KINDS: Final = {"chat.completion": "message", "text_completion": "text"}
"""Object kind of whole answers -> field of a choice that holds the text."""
_HEAD: Final = ("id", "created", "model", "system_fingerprint", "service_tier")


def complete(body: bytes) -> bool:
    """Whether the body is a whole answer with all choices finished, which `replayed` accepts."""
    try:
        whole = orjson.loads(body)
        field = _KINDS[whole["object"]]
        return bool(whole["choices"]) and all(
            isinstance(choice["index"], int)
            and choice["finish_reason"]
            and choice[field] is not None
            for choice in whole["choices"]
        )
    except (KeyError, TypeError, ValueError):
        return False


def replayed(body: bytes, *, usage: bool) -> Iterator[bytes]:
    """Yield the events of a stream with the content of a whole answer, with its token counts if `usage`."""
    whole = orjson.loads(body)
    chat = whole["object"] == "chat.completion"
    head = {name: whole[name] for name in _HEAD if name in whole}
    head["object"] = "chat.completion.chunk" if chat else "text_completion"
    for choice in whole["choices"]:
        last = {"index": choice["index"], "finish_reason": choice["finish_reason"]}
        first = {name: choice[name] for name in choice if name not in ("message", *last)}
        if chat:
            delta = {name: value for name, value in choice["message"].items() if value is not None}
            for number, call in enumerate(delta.get("tool_calls") or ()):
                call["index"] = number
            first["delta"] = delta
            last["delta"] = {}
        else:
            last["text"] = ""
        yield _event(
            {**head, "choices": [{**first, "index": last["index"], "finish_reason": None}]}
        )
        yield _event({**head, "choices": [last]})
    if usage and "usage" in whole:
        yield _event({**head, "choices": [], "usage": whole["usage"]})
    yield DONE


def assembled(events: Iterable[bytes]) -> bytes | None:
    """Return the whole answer of a stream's events; None if it broke off, has an error or no token counts."""
    whole: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    done = False
    for event in events:
        data = event.strip().removeprefix(b"data:").strip()
        if data == b"[DONE]":
            done = True
        elif event.startswith(b"data:"):
            chunk = orjson.loads(data)
            if "error" in chunk:
                return None
            whole.update({name: chunk[name] for name in (*_HEAD, "object") if name in chunk})
            whole["usage"] = chunk.get("usage") or whole.get("usage")
            for choice in chunk["choices"]:
                _add(choices.setdefault(choice["index"], {}), choice)
    finished = choices and all(choice.get("finish_reason") for choice in choices.values())
    if not (done and finished and whole["usage"]):
        return None
    whole["object"] = whole["object"].removesuffix(".chunk")
    whole["choices"] = [choices[index] for index in sorted(choices)]
    return orjson.dumps(whole)


def _add(choice: dict[str, Any], chunk: Mapping[str, Any]) -> None:
    """Add a chunk to a choice."""
    for name, value in chunk.items():
        if name == "delta":
            _extend(choice.setdefault("message", {"role": "assistant", "content": None}), value)
        elif name == "text":
            choice["text"] = choice.get("text", "") + value
        elif name == "logprobs":
            choice["logprobs"] = _joined(choice.get("logprobs"), value)
        elif value is not None or name not in choice:
            choice[name] = value


def _extend(message: dict[str, Any], delta: Mapping[str, Any]) -> None:
    for name, value in delta.items():
        if name == "tool_calls":
            calls = message.setdefault("tool_calls", [])
            for part in value or ():
                _call(calls, part)
        elif name != "role" and isinstance(value, str):
            message[name] = (message.get(name) or "") + value
        elif value is not None:
            message[name] = value


def _call(calls: list[dict[str, Any]], part: Mapping[str, Any]) -> None:
    """Add a chunk to a tool call: only its arguments come in parts."""
    index = part["index"]
    while len(calls) <= index:
        calls.append({"function": {"name": "", "arguments": ""}})
    function = part.get("function") or {}
    known = calls[index]["function"]
    known["name"] += function.get("name") or ""
    known["arguments"] += function.get("arguments") or ""
    calls[index].update({k: part[k] for k in ("id", "type") if part.get(k) is not None})


def _joined(
    known: Mapping[str, Any] | None, more: Mapping[str, Any] | None
) -> Mapping[str, Any] | None:
    """Join log probabilities: lists with one entry per token, in both APIs."""
    if known is None or more is None:
        return known or more
    return {name: _lists(known.get(name), more.get(name)) for name in {**known, **more}}


def _lists(first: list[Any] | None, second: list[Any] | None) -> list[Any] | None:
    return (first or []) + (second or []) if first or second else first


def _event(content: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(content) + b"\n\n"
