"""What speculation gains: the output tokens of a second of decoding with it, over those of a second without it.

The scheduler counts in the engine core's process, and the metrics are read in another: they share a file of numbers.
Windows without speculation are compared with the steps right before and after them, of which only those count that do
nothing but decode, and only with batches of about the same size.
"""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Self

import numpy as np
import numpy.typing as npt
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from slipstream_runtime import contract

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
_STEPS, _TOKENS, _SECONDS = range(3)
_EVER, _RECENT = range(2)
_SHAPE: Final = (2, len(_MODES), _SIZES, 3)

Numbers = npt.NDArray[np.float64]
"""Mode x batch size x (steps, tokens, seconds)."""


class Tally:
    """Steps, tokens and seconds of decoding; one process adds, others read."""

    def __init__(self, table: Numbers) -> None:
        self._table = table
        self.ever: Numbers = table[_EVER]
        """All that was counted."""
        self.recent: Numbers = table[_RECENT]
        """The same, with what is older weighing less."""
        self._stalled: set[tuple[int, int]] = set()

    @classmethod
    def create(cls, file: Path) -> Self:
        """An empty one, for all who open the file."""
        return cls(np.memmap(file, dtype=np.float64, mode="w+", shape=_SHAPE))

    @classmethod
    def open(cls, file: Path) -> Self:
        """One that exists."""
        return cls(np.memmap(file, dtype=np.float64, mode="r+", shape=_SHAPE))

    def add(self, *, speculating: bool, batch: int, tokens: int, seconds: float) -> None:
        """Count a step that decoded for `batch` requests, unless it alone took far longer than those before it."""
        kind = (_MODES["on" if speculating else "off"], min((batch - 1).bit_length(), _SIZES - 1))
        steps, _, spent = self.recent[kind]
        usual = spent / steps if steps else seconds
        if seconds > STALL * usual and kind not in self._stalled:
            self._stalled.add(kind)
            return
        self._stalled.discard(kind)
        if usual > STALL * seconds:
            self.recent[kind] = 0  # these were the stalls
        self._table[:, *kind] += (1, tokens, seconds)

    def age(self) -> None:
        """Let what was counted so far weigh less; at the end of each window."""
        self.recent *= 1 - 1 / REMEMBERED


@dataclasses.dataclass(frozen=True)
class Gain:
    """Bounds of tokens per second with speculation over tokens per second without it; equal where it is exact."""

    lower: float | None
    upper: float


def estimate(numbers: Numbers, *, passes: int | None) -> Gain | None:
    """The gain: how long the tokens that were decoded with speculation would have taken without it, over the time
    that they took. None without evidence.

    `passes` are the draft model's in a step; None where no model guesses, and the gain is exact. A draft model reads
    each token in the windows, too, with one pass a step, lest its KV cache has gaps afterwards. An engine without a
    draft saves that pass, so the time of the windows' steps gives the upper bound. A step with speculation takes at
    least `passes` - 1 more of these passes, so what it takes longer, shared among them, is the most that one can
    take: without that the windows' steps give the lower bound. With one pass there is none.
    """
    counts = (numbers[..., _STEPS] >= EVIDENCE).all(axis=0)
    on, off = numbers[0], numbers[1]
    spent = on[counts, _SECONDS].sum()
    if not counts.any() or spent < COVERED * on[:, _SECONDS].sum():
        return None
    on, off = on[counts], off[counts]
    needed = on[:, _TOKENS] * off[:, _SECONDS] / off[:, _TOKENS]
    upper = float(needed.sum() / spent)
    if passes is None:
        return Gain(upper, upper)
    if passes == 1:
        return Gain(None, upper)
    with_it, without = on[:, _SECONDS] / on[:, _STEPS], off[:, _SECONDS] / off[:, _STEPS]
    one_pass = np.clip((with_it - without) / (passes - 1), 0, without)
    return Gain(float((needed * (1 - one_pass / without)).sum() / spent), upper)


class GainMetrics(Collector):
    """The gain and what it was made from, at each scrape."""

    def __init__(self, tally: Tally, *, passes: int | None) -> None:
        self._tally = tally
        self._passes = passes

    def collect(self) -> Iterable[Metric]:
        """The metrics at this moment; no gain without evidence."""
        gain = GaugeMetricFamily(
            contract.SPECULATION_GAIN,
            "Output tokens per second of decoding with speculation, over those without it, of late: between these "
            "bounds.",
            labels=[contract.BOUND_LABEL],
        )
        if (found := estimate(self._tally.recent.copy(), passes=self._passes)) is not None:
            gain.add_metric(["upper"], found.upper)
            if found.lower is not None:
                gain.add_metric(["lower"], found.lower)
        yield gain
        table = self._tally.ever.copy()
        for column, (name, text) in enumerate(_COUNTERS.items()):
            family = CounterMetricFamily(name, text, labels=["speculation", "batch"])
            for mode, row in _MODES.items():
                for size in np.flatnonzero(table[row, :, _STEPS]):
                    family.add_metric([mode, str(2**size)], float(table[row, size, column]))
            yield family


_COUNTERS: Final = {
    contract.SAMPLED_STEPS: "Steps in windows without speculation (off) and beside them (on) that only decoded, for up "
    "to `batch` requests, more than half of that.",
    contract.SAMPLED_TOKENS: "Output tokens of these steps.",
    contract.SAMPLED_SECONDS: "Seconds that these steps took.",
}
