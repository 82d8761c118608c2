"""Comparable requests of two revisions: those of one stratum, such as of one batch size or one output length.

A canary has other replicas, another load and colder caches than the stable revision. So its requests are compared with
the stable ones of the same stratum, and strata count by the canary's values: direct standardization, or
post-stratification (W. Cochran, "Sampling Techniques", 1977, section 5A.9). It also removes the variance between
strata, which is most of the variance of latencies.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping
from typing import Final, TypeAlias

from slipstream_operator.core.comparison.totals import Totals

Strata: TypeAlias = Mapping[float, Totals]
"""Upper bound of a stratum -> totals of its values. Values grow with the bound."""
_FEWEST: Final = 2.0
"""Values of each revision that have a variance."""
_PRIOR: Final = 5.0
"""Degrees of freedom that the common variance counts for in the variance of a stratum."""
_ENOUGH: Final = 30
"""Degrees of freedom from which a variance of the canary's own is used, even if it is smaller than the stable one."""


def match(stable: Strata, canary: Strata) -> tuple[Totals, Totals] | None:
    """Return the totals of comparable requests of both; None if there are too few.

    The stable revision's count is that of equal precision: if it has few values where the canary has many, it is
    small. A canary's stratum without stable values is compared with the next one above, where values are greater. So a
    canary with less load than all stable replicas is not found to be worse without cause. Beyond all stable values
    nothing is compared.
    """
    bounds = sorted(bound for bound, totals in stable.items() if totals.count > 0)
    weights: dict[float, float] = {}
    count = total = 0.0
    for bound, totals in canary.items():
        place = bisect_left(bounds, bound)
        if place == len(bounds) or not totals.count > 0:
            continue
        weights[bounds[place]] = weights.get(bounds[place], 0.0) + totals.count
        count += totals.count
        total += totals.total
    pooled, known = _variance(canary), variances(stable)
    if count < _FEWEST or not known:
        return None
    shares = {bound: weight / count for bound, weight in weights.items()}
    variance = sum([share * known[bound] for bound, share in shares.items()])
    of_mean = sum(
        [share**2 * known[bound] / stable[bound].count for bound, share in shares.items()]
    )
    if not variance >= _FEWEST * of_mean:
        return None
    own, freedom = pooled or (variance, 0.0)
    if freedom < _ENOUGH:
        own = max(own, variance)
    mean = sum([share * stable[bound].mean for bound, share in shares.items()])
    return (
        Totals.of(
            variance / of_mean if of_mean else sum([t.count for t in stable.values()]),
            mean=mean,
            variance=variance,
            freedom=sum([max(0.0, totals.count - 1.0) for totals in stable.values()]),
        ),
        Totals.of(count, mean=total / count, variance=own, freedom=freedom),
    )


def variances(strata: Strata) -> Mapping[float, float]:
    """Return the variance of single values in each stratum; none without two values in one.

    A stratum with few values has nearly the variance that all have in common.
    """
    found = _variance(strata)
    if found is None:
        return {}
    return {
        bound: (_squares(totals) + _PRIOR * found[0]) / (max(0.0, totals.count - 1.0) + _PRIOR)
        for bound, totals in strata.items()
        if totals.count > 0
    }


def _squares(totals: Totals) -> float:
    return max(0.0, totals.squares - totals.total * totals.mean)


def _variance(strata: Strata) -> tuple[float, float] | None:
    """Return the variance within strata and its degrees of freedom; None without any."""
    present = [totals for totals in strata.values() if totals.count > 0]
    squares, freedom = sum(map(_squares, present)), sum([t.count - 1.0 for t in present])
    return (squares / freedom, freedom) if freedom > 0 and math.isfinite(squares) else None
