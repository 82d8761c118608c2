"""Choice of the waiting sequences that run together next.

Pure. A batch is padded to its longest sequence, so sequences of like length belong together; but the oldest is
always in the next batch, so that none waits for more batches than there were sequences before it.
"""

import dataclasses
from collections.abc import Sequence
from typing import Final

_BATCHES: Final = 8
"""Batches' worth of the oldest sequences among which lengths are compared."""
USEFUL: Final = 0.75
"""At least this share of a batch's tokens is no padding."""


@dataclasses.dataclass(frozen=True)
class BatchLimits:
    """Most sequences of a batch, and most tokens, padding included; a single sequence may be longer."""

    sequences: int
    tokens: int


def window(limits: BatchLimits) -> int:
    """Number of the oldest sequences that `choose` considers."""
    return _BATCHES * limits.sequences


def choose(lengths: Sequence[int], *, limits: BatchLimits) -> list[int]:
    """Indices of the next batch among waiting sequences, the oldest first; not empty unless nothing waits."""
    if not lengths:
        return []
    order = sorted(range(min(len(lengths), window(limits))), key=lengths.__getitem__)
    low = high = order.index(0)
    tokens = lengths[0]

    def fits(index: int, longest: int) -> bool:
        padded = longest * (high - low + 2)
        return padded <= limits.tokens and tokens + lengths[index] >= USEFUL * padded

    while high - low + 1 < limits.sequences:
        longest = lengths[order[high]]
        candidates: list[tuple[int, int, int]] = []
        """Padding that it adds, index, step in the order."""
        if low > 0 and fits(shorter := order[low - 1], longest):
            candidates.append((longest - lengths[shorter], shorter, -1))
        if high + 1 < len(order) and fits(longer := order[high + 1], lengths[longer]):
            padding = (lengths[longer] - longest) * (high - low + 1)
            candidates.append((padding, longer, 1))
        if not candidates:
            break
        _, index, step = min(candidates)
        tokens += lengths[index]
        low, high = (low - 1, high) if step < 0 else (low, high + 1)
    return sorted(order[low : high + 1])
