"""Gain of speculation: output tokens per second of decoding with speculation, over those without it.

The scheduler counts in the engine core's process, and another process reads the metrics; they share a file of numbers.
Windows without speculation are compared with the steps right before and after them. Only steps that do nothing but
decode count, and only batches of about the same size are compared.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

TALLY_ENV: Final = "SLIPSTREAM_SPECULATION_TALLY"
"""Environment variable with the path of the tally, which the engine core's process inherits."""
EVIDENCE: Final = 100
"""Steps of each mode that a batch size needs to count."""
COVERED: Final = 0.5
"""Share of the decoding time whose batch sizes must count; below it, the gain is unknown."""
REMEMBERED: Final = 40
"""Windows after which the weight of a sample has fallen to 1/e, so that recent traffic counts most."""

STALL: Final = 5
"""Multiple of the usual time above which a step was delayed by something else, such as a kernel's compilation."""

_SIZES: Final = 16
MODES: Final = {"on": 0, "off": 1}
"""Value of the label `speculation` -> index in the table."""
STEPS, _TOKENS, _SECONDS, _DRAFTING = range(4)
_EVER, _RECENT = range(2)
_SHAPE: Final = (2, len(MODES), _SIZES, 4)
_LENGTH: Final = 1 + math.prod(_SHAPE)

Numbers = npt.NDArray[np.float64]
"""Mode x batch size x (steps, tokens, seconds, seconds of drafting in them)."""


class Tally:
    """Steps, tokens and seconds of decoding, which the scheduler adds, and seconds of drafting, which a worker adds."""

    def __init__(self, numbers: npt.NDArray[np.float64]) -> None:
        self._drafting, self._table = numbers[:1], numbers[1:].reshape(_SHAPE)
        self.ever: Numbers = self._table[_EVER]
        """Counts since the start."""
        self.recent: Numbers = self._table[_RECENT]
        """Counts in which older ones weigh less."""
        self._stalled: set[tuple[int, int]] = set()

    @classmethod
    def create(cls, file: Path) -> Self:
        """Create an empty tally in the file; the seconds of drafting are unknown until `timed` is called."""
        numbers = np.memmap(file, dtype=np.float64, mode="w+", shape=(_LENGTH,))
        numbers[0] = np.nan
        return cls(numbers)

    @classmethod
    def open(cls, file: Path) -> Self:
        """Open an existing tally."""
        return cls(np.memmap(file, dtype=np.float64, mode="r+", shape=(_LENGTH,)))

    @property
    def drafting(self) -> float:
        """Seconds of drafting so far; NaN where they are not measured."""
        return float(self._drafting[0])

    def timed(self, draft: Callable[..., Any], *, clock: Callable[[], float]) -> Callable[..., Any]:
        """Return the drafting function with its time measured; it must not return before the draft tokens exist."""
        self._drafting[0] = 0.0

        def measured(*args: Any, **kwargs: Any) -> Any:
            began = clock()
            try:
                return draft(*args, **kwargs)
            finally:
                self._drafting[0] += clock() - began

        return measured

    def add(
        self, *, speculating: bool, batch: int, tokens: int, seconds: float, drafting: float
    ) -> None:
        """Count a step that decoded for `batch` requests, unless it alone took far longer than the steps before it."""
        kind = (MODES["on" if speculating else "off"], min((batch - 1).bit_length(), _SIZES - 1))
        steps, _, spent, _ = self.recent[kind]
        usual = spent / steps if steps else seconds
        if seconds > STALL * usual and kind not in self._stalled:
            self._stalled.add(kind)
            return
        self._stalled.discard(kind)
        if usual > STALL * seconds:
            self.recent[kind] = 0  # the earlier steps were the delayed ones
        self._table[:, *kind] += (1, tokens, seconds, drafting)

    def age(self) -> None:
        """Reduce the weight of all counts so far; called at the end of each window."""
        self.recent *= 1 - 1 / REMEMBERED


def estimate(numbers: Numbers) -> float | None:
    """Return the upper bound of the gain, or None without enough steps.

    The gain is the time that the decoded tokens would have taken without speculation, over the time that they took. A
    draft model also reads each token in the windows, because its KV cache would otherwise have gaps. That pass is
    subtracted where it is measured. Where it is not, the true gain is lower. It is also lower by the work that vLLM
    does for speculation in every step.
    """
    counts = (numbers[..., STEPS] >= EVIDENCE).all(axis=0)
    on, off = numbers[0], numbers[1]
    spent = on[counts, _SECONDS].sum()
    if not counts.any() or spent < COVERED * on[:, _SECONDS].sum():
        return None
    on, off = on[counts], off[counts]
    without = off[:, _SECONDS] - np.nan_to_num(off[:, _DRAFTING])
    return float((on[:, _TOKENS] * without / off[:, _TOKENS]).sum() / spent)
