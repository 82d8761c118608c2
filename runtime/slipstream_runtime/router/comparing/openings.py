"""Opening of a conversation: the messages that are the same in all of its turns, by which it keeps its revision."""

from collections.abc import Mapping
from typing import Any, Final

import orjson
import xxhash

LEAST: Final = 256
"""Bytes of an opening. Shorter prefixes are not worth keeping, and too many conversations begin with the same ones."""
_RANGE: Final = float(2**64)


def position(content: Mapping[str, Any], *, owner: str) -> float | None:
    """Return a number from 0 to below 1 that all turns of a conversation share; None without a reusable prefix.

    The opening ends with the first message of the user. A short one ends with the message that makes it long enough.
    `owner` is the scope in which prefixes are shared.
    """
    turns = content.get("messages", content.get("input"))
    if isinstance(turns, str):
        turns = [{"role": "user", "content": turns}]
    if not isinstance(turns, list):
        return None
    before = [_text(content.get(name)) for name in ("system", "instructions")]
    found, size, asked = [*before], sum(map(len, before)), False
    for turn in turns:
        if not isinstance(turn, dict):
            return None
        text = _text(turn.get("content"))
        found.append(text)
        size += len(text)
        asked = asked or turn.get("role") == "user"
        if asked and size >= LEAST:
            digest = xxhash.xxh3_64(owner.encode("utf-8", "surrogatepass"))
            for part in found:
                digest.update(len(part).to_bytes(8, "little"))
                digest.update(part)
            return digest.intdigest() / _RANGE % 1.0
    return None


def _text(content: object) -> bytes:
    """Return the text of a message, however it is written, or else all of it."""
    if content is None:
        return b""
    if isinstance(content, str):
        return content.encode("utf-8", "surrogatepass")
    if isinstance(content, list):
        return b"".join(_part(part) for part in content)
    return orjson.dumps(content)


def _part(part: object) -> bytes:
    if isinstance(part, dict) and isinstance(text := part.get("text"), str):
        return text.encode("utf-8", "surrogatepass")
    return orjson.dumps(part)
