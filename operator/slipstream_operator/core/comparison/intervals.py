"""Confidence sequences: intervals that hold at all times together, so that one may stop at any of them.

The difference of two means is judged by Robbins' normal mixture (H. Robbins, "Statistical Methods Related to the Law
of the Iterated Logarithm", 1970, in the form of S. Howard et al., "Time-uniform, nonparametric, nonasymptotic
confidence sequences", Annals of Statistics 49, 2021, equation 14). Its clock is the information of the estimate, the
inverse of its variance: then the estimate times the information is a Brownian motion with the difference as its drift,
also with arms of unequal size (C. Jennison and B. Turnbull, "Group Sequential Methods", 2000, chapter 11). This holds
asymptotically, hence `FREEDOM` and the correction for an estimated variance.

A share is judged by the beta mixture of binomial likelihoods, which is exact for every number of values.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Final

from slipstream_operator.core.comparison.totals import Totals

LEAST: Final = 2.0
"""Independent values of each arm before a mean is judged."""
FREEDOM: Final = 30.0
"""Degrees of freedom of the variance of both arms together before a mean is judged."""
_STEPS: Final = 50
"""Halvings of a bisection on [0, 1], to 1e-15."""


@dataclasses.dataclass(frozen=True, slots=True)
class Interval:
    """Estimate with the bounds that hold at all times with the stated probability."""

    estimate: float
    low: float
    high: float


def mean_difference(
    stable: Totals, canary: Totals, *, error: float, sought: float, inflation: float = 1.0
) -> Interval | None:
    """Return the canary's mean less the stable's; None with too few values.

    `error` is the probability that the true difference is ever outside. The interval is narrowest when it is as wide
    as the difference that is `sought`. `inflation` multiplies the variance, for values that depend on each other.
    """
    freedom = _freedom(stable) + _freedom(canary)
    if min(stable.count, canary.count) < LEAST or freedom < FREEDOM:
        return None
    estimate = canary.mean - stable.mean
    variance = inflation * (stable.variance / stable.count + canary.variance / canary.count)
    if not variance > 0.0:
        return Interval(estimate, estimate, estimate)
    information = 1.0 / variance
    # NB: Howard et al., section 3.5, give t / terms as the best variance of the mixture at information t, where terms
    # is 2 log(1 / error) + log(1 + 2 log(1 / error)); the width is that of the difference sought at terms / sought**2.
    mixed = 1.0 / sought**2
    width = math.sqrt((information + mixed) * math.log((information + mixed) / (mixed * error**2)))
    # NB: the distance in standard errors, and its expansion for Student's t (R. Fisher, 1926), because the variance is
    # estimated.
    errors = width / math.sqrt(information)
    half = (1.0 + (errors * errors + 1.0) / (4.0 * freedom)) * width / information
    return Interval(estimate, estimate - half, estimate + half)


def _freedom(arm: Totals) -> float:
    return arm.count - 1.0 if arm.freedom is None else arm.freedom


def share_difference(
    stable: tuple[float, float], canary: tuple[float, float], *, error: float
) -> Interval | None:
    """Return the canary's share less the stable's, each as hits and count; None if an arm has no values.

    Each arm gets a half of the error.
    """
    if min(stable[1], canary[1]) < 1:
        return None
    before, after = (share(*arm, error=error / 2) for arm in (stable, canary))
    return Interval(
        after.estimate - before.estimate, after.low - before.high, after.high - before.low
    )


def share(hits: float, count: float, *, error: float) -> Interval:
    """Return the share of hits: all shares against which the mixture does not speak with 1 / error."""
    estimate = hits / count
    limit = _log_beta(hits + 1.0, count - hits + 1.0) + math.log(error)

    def refuted(value: float) -> bool:
        return _log_likelihood(hits, count, value) < limit

    return Interval(
        estimate,
        _edge(estimate, 0.0, refuted) if hits else 0.0,
        _edge(estimate, 1.0, refuted) if hits < count else 1.0,
    )


def _edge(inside: float, outside: float, refuted: Callable[[float], bool]) -> float:
    """Return the share between both at which the refutation begins."""
    for _ in range(_STEPS):
        middle = (inside + outside) / 2.0
        if refuted(middle):
            outside = middle
        else:
            inside = middle
    return outside


def _log_likelihood(hits: float, count: float, value: float) -> float:
    likelihood = 0.0
    if hits:
        likelihood += hits * math.log(value) if value > 0.0 else -math.inf
    if count > hits:
        likelihood += (count - hits) * math.log1p(-value) if value < 1.0 else -math.inf
    return likelihood


def _log_beta(left: float, right: float) -> float:
    return math.lgamma(left) + math.lgamma(right) - math.lgamma(left + right)
