"""Tokens of an answer: as the engine counts them, or, where it does not tell, by its events."""

import re
from typing import Final

_PROMPT: Final = re.compile(rb'"(?:prompt|input)_tokens"\s*:\s*(\d{1,12})')
_OUTPUT: Final = re.compile(rb'"(?:completion|output)_tokens"\s*:\s*(\d{1,12})')
_USAGE: Final = b'"usage"'
_CHOICES: Final = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_END: Final = b"\n\n"
_KEPT: Final = 1024
"""Bytes of the end of a stream in which its usage is looked for: more than such an event has."""


class Usage:
    """Token usage of one answer, as far as it is known."""

    def __init__(self) -> None:
        self.prompt: int | None = None
        self.output = 0
        self.events = 0
        self._end = b""

    def read(self, body: bytes) -> None:
        """The body of an answer that is not streamed."""
        at = body.rfind(_USAGE)
        if at >= 0:
            self._find(body[at:])

    def add(self, piece: bytes) -> None:
        """One more piece of a stream."""
        self.events += piece.count(_END)
        self._end = (self._end + piece)[-_KEPT:]

    def finish(self) -> None:
        """The stream is complete."""
        at = self._end.rfind(_USAGE)
        if at >= 0:
            self._find(self._end[at:])

    def estimate(self) -> None:
        """No usage will come: an event carries a token, but for the one with [DONE]."""
        if self.prompt is None:
            self.output = max(0, self.events - 1)

    def _find(self, text: bytes) -> None:
        prompt, output = _PROMPT.search(text), _OUTPUT.search(text)
        if prompt is not None:
            self.prompt = int(prompt[1])
            self.output = int(output[1]) if output is not None else 0


class UsageFilter:
    """Takes the usage out of a stream whose client did not ask for it."""

    def __init__(self) -> None:
        self._rest = b""

    def without_usage(self, piece: bytes) -> bytes:
        """The whole events so far, without the one that carries nothing but usage."""
        if not self._rest and piece.endswith(_END) and _USAGE not in piece:
            return piece
        events = (self._rest + piece).split(_END)
        self._rest = events.pop()
        return b"".join(event + _END for event in events if not _is_usage(event))

    def rest(self) -> bytes:
        """Return the unread rest of a stream at its end."""
        rest, self._rest = self._rest, b""
        return rest


def _is_usage(event: bytes) -> bool:
    return _USAGE in event and _CHOICES.search(event) is not None
