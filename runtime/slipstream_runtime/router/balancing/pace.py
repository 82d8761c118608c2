"""Pace at which a service's engines generate, measured from answers that are complete.

It estimates the tokens of an answer that no client waited for.
"""

from typing import Final

_LEAST_OUTPUT: Final = 16
"""Output tokens of an answer that counts; a shorter one takes most of its time for other things."""
_PROMPT_SHARE: Final = 8
"""Prompt tokens for each output token, above which an answer does not count: prompts take most of its time."""
_KEPT: Final = 256
"""Answers after which the highest pace of those before is forgotten, so that a slower revision is noticed."""


class Pace:
    """Highest number of tokens a second of one answer, among the last 256 to 512 answers."""

    def __init__(self) -> None:
        self._now = 0.0
        self._before = 0.0
        self._noted = 0

    def note(self, *, prompt: int, output: int, answers: int, seconds: float) -> None:
        """Note a request that got `output` tokens in all its answers, which the engine generated side by side."""
        each = output / max(1, answers)
        if each < _LEAST_OUTPUT or prompt > _PROMPT_SHARE * output or seconds <= 0:
            return
        if self._noted == _KEPT:
            self._before, self._now, self._noted = self._now, 0.0, 0
        self._noted += 1
        self._now = max(self._now, each / seconds)

    def tokens(self, seconds: float) -> int | None:
        """Return the most tokens that one answer got in this time; None if no pace is known."""
        pace = max(self._now, self._before)
        return int(pace * seconds) + 1 if pace else None
