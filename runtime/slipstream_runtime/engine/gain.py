"""Table of what decoding with each number of draft tokens brought, and of the numbers that are in use.

The scheduler writes in the engine core's process, and another process reads the metrics; they share a file of numbers.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from slipstream_runtime.engine.draft_lengths import SIZES, Choice, overall

TALLY_ENV: Final = "SLIPSTREAM_SPECULATION_TALLY"
"""Environment variable with the path of the tally, which the engine core's process inherits."""

STEPS, TOKENS, SECONDS, DRAFTING = range(4)
"""Columns of the table."""
_COLUMNS: Final = 4
_HEAD: Final = 2

Numbers = npt.NDArray[np.float64]


class Tally:
    """Steps, tokens and seconds of decoding by batch size and draft tokens, and the numbers of draft tokens in use."""

    def __init__(self, numbers: Numbers) -> None:
        self._head, rest = numbers[:_HEAD], numbers[_HEAD:]
        self._choices = rest[: 2 * SIZES].reshape(SIZES, 2)
        self.table: Numbers = rest[2 * SIZES :].reshape(SIZES, -1, _COLUMNS)
        """Batch size x draft tokens x (steps, tokens, seconds, seconds of drafting in them), since the start."""

    @classmethod
    def create(cls, file: Path, *, most: int) -> Self:
        """Create an empty tally of up to `most` draft tokens; nothing is known until it is written."""
        length = _HEAD + SIZES * (2 + (most + 1) * _COLUMNS)
        numbers = np.memmap(file, dtype=np.float64, mode="w+", shape=(length,))
        numbers[: _HEAD + 2 * SIZES] = np.nan
        return cls(numbers)

    @classmethod
    def open(cls, file: Path) -> Self:
        """Open an existing tally."""
        return cls(np.memmap(file, dtype=np.float64, mode="r+"))

    @property
    def most(self) -> int:
        """Largest number of draft tokens."""
        return int(self.table.shape[1]) - 1

    @property
    def drafting(self) -> float:
        """Seconds of drafting so far; NaN where they are not measured."""
        return float(self._head[0])

    @property
    def gain(self) -> float | None:
        """Output tokens per second of decoding, over those without draft tokens; None while unknown."""
        return _known(self._head[1])

    def timed(self, draft: Callable[..., Any], *, clock: Callable[[], float]) -> Callable[..., Any]:
        """Return the drafting function with its time measured; it must not return before the draft tokens exist."""
        self._head[0] = 0.0

        def measured(*args: Any, **kwargs: Any) -> Any:
            began = clock()
            try:
                return draft(*args, **kwargs)
            finally:
                self._head[0] += clock() - began

        return measured

    def add(self, size: int, drafted: int, *, tokens: int, seconds: float, drafting: float) -> None:
        """Count a step that decoded with `drafted` draft tokens per request."""
        self.table[size, drafted] += (1, tokens, seconds, drafting)

    def choose(self, choices: Mapping[int, Choice]) -> None:
        """Write down the numbers of draft tokens in use, and what they gain."""
        for size, choice in choices.items():
            self._choices[size] = (choice.tokens, math.nan if choice.gain is None else choice.gain)
        gain = overall(choices)
        self._head[1] = math.nan if gain is None else gain

    def choices(self) -> dict[int, tuple[int, float | None]]:
        """Return the number of draft tokens in use and its gain, by group of batch sizes."""
        return {
            size: (int(tokens), _known(gain))
            for size, (tokens, gain) in enumerate(self._choices.tolist())
            if not math.isnan(tokens)
        }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
