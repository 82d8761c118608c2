"""Requests and answers of the part of the OpenAI API that a simulated engine supports.

There is no tokenizer: a token is four characters of a prompt, and one filler word of an answer. An answer has exactly
as many tokens as its request allows, or 128 without a limit.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import pydantic

from slipstream_runtime.web import openai

STOPPING: Final = "The engine is stopping. Retry."
DEFAULT_OUTPUT: Final = 128
"""Output tokens of a request without a limit."""
CHARACTERS_PER_TOKEN: Final = 4
MESSAGE_TOKENS: Final = 4
"""Tokens that a chat template adds to each message."""

_WORDS: Final = (
    "the ",
    "sea ",
    "was ",
    "far ",
    "too ",
    "big ",
    "for ",
    "one ",
    "man ",
    "and ",
    "his ",
    "old ",
    "dog ",
    "but ",
    "she ",
    "saw ",
    "how ",
    "red ",
    "sun ",
    "set ",
    "low ",
)

Tokens = Annotated[int, pydantic.Field(ge=1)]


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="ignore")


class TextPart(_Part):
    """A piece of a message; pieces that are not text count as nothing."""

    text: str = ""


class Message(_Part):
    """Message of a chat."""

    role: str
    content: str | tuple[TextPart, ...] | None = None

    def characters(self) -> int:
        """Return the length of its text."""
        if isinstance(self.content, str):
            return len(self.content)
        return sum(len(part.text) for part in self.content or ())


class StreamOptions(_Part):
    """Options of a stream."""

    include_usage: bool = False


class _Request(_Part):
    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: Tokens | None = None
    n: Literal[1] | None = 1

    def limit(self) -> int | None:
        """Return the client's limit of output tokens."""
        return self.max_tokens

    def wants_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return self.stream_options is not None and self.stream_options.include_usage


class Chat(_Request):
    """POST /v1/chat/completions."""

    messages: tuple[Message, ...] = pydantic.Field(min_length=1)
    max_completion_tokens: Tokens | None = None

    def limit(self) -> int | None:
        """Return the client's limit of output tokens; the newer field wins."""
        return self.max_completion_tokens or self.max_tokens

    def prompt_tokens(self) -> int:
        """Return the estimated tokens of the prompt."""
        return sum(_tokens(message.characters()) + MESSAGE_TOKENS for message in self.messages)


class Completion(_Request):
    """POST /v1/completions; the prompt is text or token ids."""

    prompt: str | tuple[int, ...] | tuple[str]

    def prompt_tokens(self) -> int:
        """Return the estimated tokens of the prompt; token ids are counted exactly."""
        if isinstance(self.prompt, str):
            return max(1, _tokens(len(self.prompt)))
        return max(1, sum(1 if isinstance(x, int) else _tokens(len(x)) for x in self.prompt))


Request = Chat | Completion


def _tokens(characters: int) -> int:
    return math.ceil(characters / CHARACTERS_PER_TOKEN)


def filler(start: int, end: int) -> str:
    """Return the text of these output tokens."""
    return "".join(_WORDS[index % len(_WORDS)] for index in range(start, end))


@dataclass(frozen=True, slots=True)
class Answer:
    """Writer of the answer to one request; holds the fields that all its chunks share."""

    identity: str
    created: int
    model: str
    chat: bool
    prompt: int
    reason: Literal["stop", "length"]

    def whole(self, tokens: int) -> dict[str, object]:
        """Return the body of an answer that is not streamed."""
        text = filler(0, tokens)
        choice: dict[str, object] = {"index": 0, "finish_reason": self.reason, "logprobs": None}
        if self.chat:
            choice["message"] = {"role": "assistant", "content": text}
        else:
            choice["text"] = text
        kind = "chat.completion" if self.chat else "text_completion"
        return {**self._head(kind), "choices": [choice], "usage": self._usage(tokens)}

    def opening(self) -> bytes:
        """Return the first chunk of a stream, at its first token."""
        return self._event({"role": "assistant", "content": ""}) if self.chat else b""

    def text(self, start: int, end: int) -> bytes:
        """Return the chunk of these output tokens."""
        text = filler(start, end)
        return self._event({"content": text} if self.chat else text)

    def closing(self, tokens: int, *, usage: bool) -> bytes:
        """Return the last chunks of a stream."""
        parts = [self._event({} if self.chat else "", reason=self.reason)]
        if usage:
            parts.append(_data({**self._chunk_head(), "choices": [], "usage": self._usage(tokens)}))
        parts.append(b"data: [DONE]\n\n")
        return b"".join(parts)

    def _event(self, content: dict[str, str] | str, *, reason: str | None = None) -> bytes:
        field = "delta" if self.chat else "text"
        choice = {"index": 0, field: content, "logprobs": None, "finish_reason": reason}
        return _data({**self._chunk_head(), "choices": [choice]})

    def _chunk_head(self) -> dict[str, object]:
        return self._head("chat.completion.chunk" if self.chat else "text_completion")

    def _head(self, kind: str) -> dict[str, object]:
        return {
            "id": self.identity,
            "object": kind,
            "created": self.created,
            "model": self.model,
        }

    def _usage(self, tokens: int) -> dict[str, int]:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": tokens,
            "total_tokens": self.prompt + tokens,
        }


def broken(message: str) -> bytes:
    """Return the event that ends a stream with an error."""
    return _data(openai.error(message, status=503))


def _data(content: Mapping[str, object]) -> bytes:
    return b"data: " + json.dumps(content, separators=(",", ":")).encode() + b"\n\n"
