"""Conversation of a chat completion: its system messages, its turns, and their estimated tokens.

A turn is a message of the user with everything up to the user's next message, so a tool call stays with its result.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from slipstream_runtime.router.messages.usage import BYTES_PER_TOKEN
from slipstream_runtime.web.media import PARTS

Message = Mapping[str, Any]

MEDIA_TOKENS: Final = 1024
"""Tokens of an image or another medium, as in `messages.request`."""
QUERY_BYTES: Final = 8192
"""Bytes of a message that are searched for; encoders read less than that."""
SYSTEM: Final = ("system", "developer")
"""Roles of instructions."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Messages from one message of the user to the next one."""

    messages: tuple[Message, ...]

    @property
    def tokens(self) -> int:
        """Return the estimated tokens."""
        return sum(map(tokens, self.messages))


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages of a chat."""

    head: tuple[Message, ...]
    """Messages before the user's first one."""
    turns: tuple[Turn, ...]

    @property
    def question(self) -> str:
        """Return the text of the user's newest message."""
        if not self.turns:
            return ""
        newest = self.turns[-1].messages[0]
        return text(newest).encode()[-QUERY_BYTES:].decode(errors="ignore").strip()


def parse(content: Mapping[str, Any]) -> Conversation | None:
    """Return the conversation of a body; None if it has no list of messages, which the engine then refuses."""
    messages = content.get("messages")
    if not isinstance(messages, list) or not messages:
        return None
    if not all(isinstance(m, dict) and isinstance(m.get("role"), str) for m in messages):
        return None
    starts = _starts(messages)
    if not starts:
        return Conversation(tuple(messages), ())
    ends = [*starts[1:], len(messages)]
    turns = tuple(Turn(tuple(messages[start:end])) for start, end in zip(starts, ends, strict=True))
    return Conversation(tuple(messages[: starts[0]]), turns)


def _starts(messages: Sequence[Message]) -> list[int]:
    """Return the positions of the user's messages that begin a turn: none between a tool call and its result."""
    results = {
        call: at
        for at, message in enumerate(messages)
        if message["role"] == "tool" and isinstance(call := message.get("tool_call_id"), str)
    }
    found, last_result = [], -1
    for at, message in enumerate(messages):
        if message["role"] == "user" and at > last_result:
            found.append(at)
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            name = call.get("id") if isinstance(call, dict) else None
            if isinstance(name, str):
                last_result = max(last_result, results.get(name, -1))
    return found


def messages(conversation: Conversation) -> list[Message]:
    """Return all messages in order."""
    return [*conversation.head, *(m for turn in conversation.turns for m in turn.messages)]


def with_context(conversation: Conversation, context: str) -> Conversation:
    """Return the conversation with this text at the end of its first system message, which is added if it has none.

    Many chat templates accept one system message, and only as the first message.
    """
    for index, message in enumerate(conversation.head):
        if message["role"] in SYSTEM:
            changed = {**message, "content": _extended(message.get("content"), context)}
            head = (*conversation.head[:index], changed, *conversation.head[index + 1 :])
            return Conversation(head, conversation.turns)
    added = {"role": "system", "content": context}
    return Conversation((added, *conversation.head), conversation.turns)


def text(message: Message) -> str:
    """Return the text of a message; media and tool calls are named in brackets."""
    content = message.get("content")
    parts = [content] if isinstance(content, str) else list(_parts(content))
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            parts.append(f"[calls {function.get('name')} with {function.get('arguments')}]")
    return "\n".join(parts)


def tokens(message: Message) -> int:
    """Return the estimated tokens of a message, from the bytes of its text."""
    content = message.get("content")
    media = 0
    if isinstance(content, list):
        media = sum(isinstance(p, dict) and any(n in p for n in PARTS) for p in content)
    return len(text(message).encode()) // BYTES_PER_TOKEN + media * MEDIA_TOKENS + 4


def prefixes(scope: Sequence[object], turns: Iterable[Turn]) -> list[bytes]:
    """Return a hash after each turn, of all turns up to it; conversations with equal beginnings have equal hashes.

    Conversations of different scopes have no hash in common.
    """
    state = hashlib.sha256(orjson.dumps(scope))
    found = []
    for turn in turns:
        part = orjson.dumps(turn.messages)
        state.update(len(part).to_bytes(8, "big") + part)
        found.append(state.digest())
    return found


def _extended(content: object, context: str) -> object:
    if isinstance(content, list):
        return [*content, {"type": "text", "text": context}]
    return f"{content}\n\n{context}" if isinstance(content, str) and content else context


def _parts(content: object) -> Iterable[str]:
    """Yield the texts of a content in parts."""
    for part in content if isinstance(content, list) else ():
        if not isinstance(part, dict):
            continue
        found = part.get("text")
        if isinstance(found, str):
            yield found
        elif isinstance(part.get("type"), str):
            yield f"[{part['type']}]"
