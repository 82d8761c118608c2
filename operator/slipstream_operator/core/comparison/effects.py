"""Design effect: the number of dependent values that are worth one independent value.

Requests of one moment share the state of a replica, so their latencies depend on each other. The effect is the variance
of means of consecutive values over the variance that independent values would give: the method of batch means (P.
Glynn and W. Whitt, "Estimating the Asymptotic Variance with Batch Means", 1991). A batch has the values of one or more
rounds of queries. Of several batch sizes the greatest effect counts, because short batches miss long dependence.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple, TypeAlias

from slipstream_operator.core.comparison.strata import Strata

_FEWEST: Final = 8
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


def design_effect(ticks: Ticks, *, variance: float) -> float:
    """Return the effect, at least 1; `variance` is that of single values."""
    effect = 1.0
    if not variance > 0.0:
        return effect
    while len(ticks) >= _FEWEST:
        effect = max(effect, _between(ticks) / variance)
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
