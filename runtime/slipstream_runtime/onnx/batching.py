"""Choice of the waiting sequences that run together next.

Pure. A batch is padded to its longest sequence, so sequences of similar length belong together. The first sequence
is always in the next batch, so a sequence waits for at most as many batches as there were sequences before it.
"""

import dataclasses
from collections.abc import Sequence
from typing import Final

_BATCHES: Final = 8
"""Number of full batches of the oldest sequences whose lengths are compared."""
USEFUL: Final = 0.75
"""Share of a batch's tokens that must not be padding."""


@dataclasses.dataclass(frozen=True)
class BatchLimits:
    """Limits of a batch: sequences, and tokens with padding; a single sequence may be longer."""

    sequences: int
    tokens: int


def window(limits: BatchLimits) -> int:
    """Return the number of the oldest sequences that `choose` considers."""
    return _BATCHES * limits.sequences


def choose(lengths: Sequence[int], *, limits: BatchLimits) -> list[int]:
    """Return the indices of the next batch among the waiting sequences, oldest first; empty only if none waits."""
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
        """Added padding, index, and step in the order."""
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
