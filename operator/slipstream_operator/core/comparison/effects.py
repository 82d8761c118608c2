"""Design effect: the number of dependent values that are worth one independent value.

Requests of one moment share the state of a replica, so their latencies depend on each other. There are two estimates:

- Of the first minutes: 1 + (m - 1) * correlation for m values of each replica (L. Kish, "Survey Sampling", 1965,
  section 5.4). The correlation is that of answers that follow each other without an overlap, from the variance of their
  differences (J. von Neumann, "Distribution of the Ratio of the Mean Square Successive Difference to the Variance",
  1941). Requests that overlap depend more on each other, and add their number times their correlation. The estimate
  assumes that the correlation lasts, so it is too large later.
- Of many rounds of queries: the variance of means of consecutive values, over the variance that independent values
  would give (P. Glynn and W. Whitt, "Estimating the Asymptotic Variance with Batch Means", 1991). A batch has the
  values of one or more rounds. Of several batch sizes the greatest effect counts, because short batches miss long
  dependence.

The smaller estimate counts.
"""

import math
from collections.abc import Mapping
from typing import Final, NamedTuple, TypeAlias

from slipstream_operator.core.comparison.strata import Strata

_FEWEST: Final = 6
"""Batches for an estimate: with fewer it is little more than chance."""
_MOST: Final = 512
"""Rounds that are kept. Of more, neighbors become one."""


class Tick(NamedTuple):
    """New values of one round: their number, and the sum of their distances from the stable mean of their stratum."""

    number: float
    total: float


Ticks: TypeAlias = tuple[Tick, ...]


def residual(new: Strata, means: Mapping[float, float]) -> Tick | None:
    """Return the tick of new values; None if there are none that can be compared."""
    count = total = 0.0
    for bound, totals in new.items():
        if totals.count > 0 and bound in means:
            count += totals.count
            total += totals.total - totals.count * means[bound]
    return Tick(count, total) if count else None


def appended(ticks: Ticks, tick: Tick) -> Ticks:
    """Return the ticks with one more."""
    return (*(_joined(ticks, 2) if len(ticks) >= _MOST else ticks), tick)


def correlation(steps: float, *, expected: float) -> float:
    """Return the correlation of successive values, from 0 to 1; 0 without pairs.

    `steps` is the sum of half of their squared differences, and `expected` that of independent values.
    """
    return min(1.0, max(0.0, 1.0 - steps / expected)) if expected > 0.0 else 0.0


def of_replicas(each: float, *, apart: float, near: float, overlap: float) -> float:
    """Return the effect of `each` values of one replica.

    Values that are `apart` are equally correlated, however far. Each is as correlated as `near` values with those on
    both sides that it overlaps, of which there are `overlap` on each.
    """
    others = max(0.0, each - 1.0)
    return 1.0 + others * apart + min(others, 2.0 * overlap) * max(0.0, near - apart)


def of_rounds(ticks: Ticks, *, variance: float) -> float:
    """Return the effect that rounds of queries show, with its standard error; infinite with too few of them."""
    if len(ticks) < _FEWEST:
        return math.inf
    effect = 1.0
    if not variance > 0.0:
        return effect
    while len(ticks) >= _FEWEST:
        uncertain = 1.0 + math.sqrt(2.0 / (len(ticks) - 1))
        effect = max(effect, _between(ticks) / variance * uncertain)
        ticks = _joined(ticks, 2)
    return effect


def _between(ticks: Ticks) -> float:
    """Return the variance of a single value, as the means of batches give it."""
    count = sum([tick.number for tick in ticks])
    mean = sum([tick.total for tick in ticks]) / count
    return sum([tick.number * (tick.total / tick.number - mean) ** 2 for tick in ticks]) / (
        len(ticks) - 1
    )


def _joined(ticks: Ticks, size: int) -> Ticks:
    return tuple(
        Tick(
            sum([t.number for t in ticks[at : at + size]]),
            sum([t.total for t in ticks[at : at + size]]),
        )
        for at in range(0, len(ticks), size)
    )
