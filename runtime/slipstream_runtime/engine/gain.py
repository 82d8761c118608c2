"""Gain of speculation: output tokens per second of decoding with it, over those without it.

The scheduler counts in the engine core's process, and the metrics are read in another: they share a file of numbers.
Windows without speculation are compared with the steps right before and after them, of which only those count that do
nothing but decode, and only with batches of about the same size.
"""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from slipstream_runtime import contract

TALLY_ENV: Final = "SLIPSTREAM_SPECULATION_TALLY"
"""The file of the tally; inherited by the engine core's process, whichever way that is started."""
EVIDENCE: Final = 100
"""Steps, with speculation as well as without it, that a batch size must have to count."""
COVERED: Final = 0.5
"""Share of the time of decoding whose batch sizes must count, or the gain is not known."""
REMEMBERED: Final = 40
"""Windows after which a sample weighs about 1/e: the gain is that of the recent traffic."""

STALL: Final = 5
"""A step that takes so many times the usual time waited for something else, such as a kernel that was compiled."""

_SIZES: Final = 16
_MODES: Final = {"on": 0, "off": 1}
_STEPS, _TOKENS, _SECONDS, _DRAFTING = range(4)
_EVER, _RECENT = range(2)
_SHAPE: Final = (2, len(_MODES), _SIZES, 4)
_LENGTH: Final = 1 + math.prod(_SHAPE)

Numbers = npt.NDArray[np.float64]
"""Mode x batch size x (steps, tokens, seconds, seconds of drafting in them)."""


class Tally:
    """Steps, tokens and seconds of decoding; the scheduler adds, a worker adds what drafting takes, others read."""

    def __init__(self, numbers: npt.NDArray[np.float64]) -> None:
        self._drafting, self._table = numbers[:1], numbers[1:].reshape(_SHAPE)
        self.ever: Numbers = self._table[_EVER]
        """All that was counted."""
        self.recent: Numbers = self._table[_RECENT]
        """The same, with what is older weighing less."""
        self._stalled: set[tuple[int, int]] = set()

    @classmethod
    def create(cls, file: Path) -> Self:
        """An empty one, for all who open the file; it is not known yet how long drafting takes."""
        numbers = np.memmap(file, dtype=np.float64, mode="w+", shape=(_LENGTH,))
        numbers[0] = np.nan
        return cls(numbers)

    @classmethod
    def open(cls, file: Path) -> Self:
        """One that exists."""
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
        """Count a step that decoded for `batch` requests, unless it alone took far longer than those before it."""
        kind = (_MODES["on" if speculating else "off"], min((batch - 1).bit_length(), _SIZES - 1))
        steps, _, spent, _ = self.recent[kind]
        usual = spent / steps if steps else seconds
        if seconds > STALL * usual and kind not in self._stalled:
            self._stalled.add(kind)
            return
        self._stalled.discard(kind)
        if usual > STALL * seconds:
            self.recent[kind] = 0  # these were the stalls
        self._table[:, *kind] += (1, tokens, seconds, drafting)

    def age(self) -> None:
        """Let what was counted so far weigh less; at the end of each window."""
        self.recent *= 1 - 1 / REMEMBERED


def estimate(numbers: Numbers) -> float | None:
    """Return the upper bound of the gain: the time that the decoded tokens would have taken without speculation, over
    the time that they took. None without evidence.

    A draft model reads each token in the windows, too, lest its KV cache has gaps afterwards. That pass is taken off
    the windows' time where it is measured. Where it is not, and for what vLLM does in every step of an engine that may
    speculate, the gain over an engine without speculation is less.
    """
    counts = (numbers[..., _STEPS] >= EVIDENCE).all(axis=0)
    on, off = numbers[0], numbers[1]
    spent = on[counts, _SECONDS].sum()
    if not counts.any() or spent < COVERED * on[:, _SECONDS].sum():
        return None
    on, off = on[counts], off[counts]
    without = off[:, _SECONDS] - np.nan_to_num(off[:, _DRAFTING])
    return float((on[:, _TOKENS] * without / off[:, _TOKENS]).sum() / spent)


class GainMetrics(Collector):
    """The gain and what it was made from, at each scrape."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def collect(self) -> Iterable[Metric]:
        """The metrics at this moment; no gain without evidence."""
        gain = GaugeMetricFamily(
            contract.SPECULATION_GAIN,
            "Upper bound of the recent gain: output tokens per second with speculation, over those without.",
        )
        if (found := estimate(self._tally.recent.copy())) is not None:
            gain.add_metric([], found)
        yield gain
        table = self._tally.ever.copy()
        for column, (name, text) in enumerate(_COUNTERS.items()):
            family = CounterMetricFamily(name, text, labels=["speculation", "batch"])
            for mode, row in _MODES.items():
                for size in np.flatnonzero(table[row, :, _STEPS]):
                    if not math.isnan(value := float(table[row, size, column])):
                        family.add_metric([mode, str(2**size)], value)
            yield family


_COUNTERS: Final = {
    contract.SAMPLED_STEPS: "Steps in windows without speculation (off) and beside them (on) that only decoded, for up "
    "to `batch` requests, more than half of that.",
    contract.SAMPLED_TOKENS: "Output tokens of these steps.",
    contract.SAMPLED_SECONDS: "Seconds that these steps took.",
    contract.SAMPLED_DRAFTING: "Seconds of these steps spent on drafting; absent where drafting is not measured.",
}
