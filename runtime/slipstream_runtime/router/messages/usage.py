"""Token usage of an answer: the engine's count, or an estimate from the events of the stream."""

import re
from dataclasses import dataclass
from typing import Final

_PROMPT: Final = re.compile(rb'"(?:prompt|input)_tokens"\s*:\s*(\d{1,12})')
_OUTPUT: Final = re.compile(rb'"(?:completion|output)_tokens"\s*:\s*(\d{1,12})')
_CACHED: Final = re.compile(rb'"cache_(?:read|creation)_input_tokens"\s*:\s*(\d{1,12})')
"""Prompt tokens that Anthropic's form counts apart from `input_tokens`."""
_USAGE: Final = b'"usage"'
_BILLED: Final = b'"billed_units"'
"""The usage in Cohere's form."""
_CHOICES: Final = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_END: Final = b"\n\n"
_LONG_END: Final = b"\r\n\r\n"
EVENT_BYTES: Final = 4 * 1024 * 1024
"""Most bytes of an event; the last one of a response has its whole text."""
BYTES_PER_TOKEN: Final = 4
"""Bytes of text per token: an estimate, until the engine reports its count."""
_TOKEN_EVENT_BYTES: Final = 512
"""Bytes of an event with one token, at most, unless it has log probabilities."""
_TAIL_BYTES: Final = 1024
"""Bytes at the end of a stream that are searched for the usage: more than such an event has."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of prompts and answers, as engines count them."""

    prompt: int = 0
    output: int = 0

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(self.prompt + other.prompt, self.output + other.output)


class Usage:
    """Token usage of one answer; `prompt` is None until the engine reports it."""

    def __init__(self) -> None:
        self.prompt: int | None = None
        self.output = 0
        self.events = 0
        self.size = 0
        """Bytes of an answer without streaming."""
        self.merged = 0
        """Estimated tokens in events that have more than one, as an engine sends them to a slow client."""
        self._end = b""

    def read(self, body: bytes) -> None:
        """Read the usage from the body of an answer without streaming."""
        self.size += len(body)
        self._end = body[-_TAIL_BYTES:]
        self._find(body)

    def read_header(self, described: str) -> None:
        """Read the usage from the header of an answer in bytes."""
        self._find(described.encode("utf-8", "replace"))

    def add_part(self, part: bytes) -> None:
        """Add a part of a long answer without streaming."""
        self.size += len(part)
        self._end = (self._end + part)[-_TAIL_BYTES:]

    def add(self, chunk: bytes) -> None:
        """Add a chunk of a stream."""
        count = chunk.count(_END)
        if len(chunk) > _TOKEN_EVENT_BYTES * (count + 1):
            self.merged += (len(chunk) - _TOKEN_EVENT_BYTES * count) // BYTES_PER_TOKEN
        self.events += count
        self._end = (self._end + chunk)[-_TAIL_BYTES:]

    def finish(self) -> None:
        """Read the usage at the end of a complete stream or long answer."""
        self._find(self._end)

    @property
    def end(self) -> bytes:
        """Return the last bytes of the answer."""
        return self._end

    def estimate(self) -> None:
        """Without usage, count one token per event of a stream, except the one with [DONE]."""
        if self.prompt is None:
            self.output = max(0, self.events - 1)

    def _find(self, body: bytes) -> None:
        at = body.rfind(_USAGE)
        if at < 0:
            at = body.rfind(_BILLED)
        if at < 0:
            return
        text = body[at:]
        prompt, output = _PROMPT.search(text), _OUTPUT.search(text)
        if prompt is not None:
            self.prompt = int(prompt[1]) + sum(int(count) for count in _CACHED.findall(text))
            self.output = int(output[1]) if output is not None else 0


class EventFilter:
    """Filter of a stream's chunks: it lets complete events pass, and can remove the usage that the client did not
    request."""

    def __init__(self, *, hide_usage: bool) -> None:
        self._hide_usage = hide_usage
        self._rest = bytearray()

    def complete(self, chunk: bytes) -> bytes:
        """Return the events that are complete with this chunk; EndlessEventError if one is too large."""
        if not self._rest and chunk.endswith(_END) and not (self._hide_usage and _USAGE in chunk):
            return chunk
        # NB: only what is new is searched, so that an event in a thousand chunks costs no more than one.
        searched = max(0, len(self._rest) - len(_LONG_END) + 1)
        self._rest += chunk
        end = max(_after(self._rest, _END, searched), _after(self._rest, _LONG_END, searched))
        if not end:
            if len(self._rest) > EVENT_BYTES:
                raise EndlessEventError
            return b""
        events = bytes(memoryview(self._rest)[:end])
        del self._rest[:end]
        if not self._hide_usage or _USAGE not in events:
            return events
        return b"".join(
            event + _END for event in events.split(_END) if event and not _is_usage(event)
        )

    def rest(self) -> bytes:
        """Return the incomplete event at the end of a stream."""
        rest = bytes(self._rest)
        self._rest.clear()
        return rest


class EndlessEventError(Exception):
    """Raised for an event that is larger than any engine sends."""


def _after(text: bytearray, end: bytes, start: int) -> int:
    """Return the index after the last such end; 0 if there is none."""
    at = text.rfind(end, start)
    return 0 if at < 0 else at + len(end)


def _is_usage(event: bytes) -> bool:
    return _USAGE in event and _CHOICES.search(event) is not None
