"""Statistics of paired scores: the loss of a candidate against a baseline, with its confidence interval. Pure.

Scores of 0 and 1 are compared by Tango's score interval for paired proportions, and by McNemar's exact test. (Tango:
"Equivalence test and confidence interval for the difference in proportions for the paired-sample design", 1998.)
Other scores are compared by the paired bootstrap (Efron: "Better bootstrap confidence intervals", 1987). Their test
flips the signs of the differences.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from scipy import optimize, stats

CONFIDENCE: Final = 0.95
"""Confidence of every interval; each end is exceeded in 2.5 % of the cases."""
_TAIL: Final = (1 - CONFIDENCE) / 2
_Z: Final = float(stats.norm.isf(_TAIL))
_RESAMPLES: Final = 4999
FEWEST_TEXTS: Final = 30
"""Texts below which the bootstrap of an unbounded score is not trusted. Convention of introductory statistics."""
MOST_ITEMS: Final = 1_000_000
"""Number of items beyond which no number is recommended."""


class Verdict(StrEnum):
    """Result of a comparison with the greatest allowed loss."""

    PASSED = "Passed"
    FAILED = "Failed"
    INCONCLUSIVE = "Inconclusive"


@dataclass(frozen=True, slots=True)
class Interval:
    """Estimate with the ends of its confidence interval."""

    low: float
    estimate: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Loss of a candidate against its baseline over the same items."""

    items: int
    loss: Interval
    """Positive if the candidate is worse."""
    p: float
    """Probability of a difference at least this large if both models were equally good."""
    counts: tuple[int, int] | None = None
    """Items that the candidate alone got wrong, and right; None unless all scores are 0 or 1."""


def mean(scores: Sequence[float], *, seed: int = 0) -> Interval:
    """Return the mean score: Wilson's interval for scores of 0 and 1, else the bootstrap's."""
    values = np.asarray(scores, float)
    if _binary(values):
        found = stats.binomtest(int(values.sum()), len(values)).proportion_ci(
            CONFIDENCE, method="wilson"
        )
        return Interval(float(found.low), float(values.mean()), float(found.high))
    return _bootstrap(values, seed=seed)


def compare(baseline: Sequence[float], candidate: Sequence[float], *, seed: int = 0) -> Comparison:
    """Compare scores between 0 and 1 of the same items in the same order."""
    before, after = np.asarray(baseline, float), np.asarray(candidate, float)
    differences = before - after
    if _binary(before) and _binary(after):
        lost = int((differences > 0).sum())
        won = int((differences < 0).sum())
        return _proportions(lost, won, len(before))
    return _differences(differences, bounds=(-1.0, 1.0), seed=seed)


def compare_losses(
    losses: Sequence[float], *, least: float, most: float, seed: int = 0
) -> Comparison:
    """Judge losses that were measured against the baseline directly, each between `least` and `most`."""
    return _differences(np.asarray(losses, float), bounds=(least, most), seed=seed)


def compare_rates(excess: Sequence[float], sizes: Sequence[float], *, seed: int = 0) -> Comparison:
    """Compare texts by their excess of negative log-likelihood over the baseline, in nats, and their tokens.

    The loss is the relative growth of the perplexity over all texts. Its interval is unbounded with few texts, and
    with a text that one of the models finds impossible.
    """
    amounts, tokens = np.asarray(excess, float), np.asarray(sizes, float)
    if not np.isfinite(amounts).all():
        return Comparison(len(amounts), Interval(-math.inf, math.inf, math.inf), p=math.nan)
    estimate = float(amounts.sum() / tokens.sum())
    low, high = -math.inf, math.inf
    if len(amounts) >= FEWEST_TEXTS:
        low = high = estimate
        if np.ptp(amounts / tokens) > 0:
            found = stats.bootstrap(
                (amounts, tokens),
                lambda top, bottom, axis: top.sum(axis) / bottom.sum(axis),
                paired=True,
                n_resamples=_RESAMPLES,
                confidence_level=CONFIDENCE,
                method="percentile",
                rng=np.random.default_rng(seed),
            ).confidence_interval
            low, high = float(found.low), float(found.high)
    loss = Interval(_growth(low), _growth(estimate), _growth(high))
    return Comparison(len(amounts), loss, p=_sign_flips(amounts, seed=seed))


def judge(comparison: Comparison, *, most: float) -> Verdict:
    """Judge a loss: it passes only if the upper end of its interval is below `most`."""
    if comparison.loss.high < most:
        return Verdict.PASSED
    if comparison.loss.low >= most:
        return Verdict.FAILED
    return Verdict.INCONCLUSIVE


def items_needed(comparison: Comparison, *, most: float) -> int | None:
    """Return the number of items that would separate a loss of this size from `most`; None if none would."""
    loss = comparison.loss
    if not math.isfinite(loss.high) or not math.isfinite(loss.low):
        return FEWEST_TEXTS if comparison.items < FEWEST_TEXTS else None
    if comparison.counts is not None:
        return _items_of_proportions(*comparison.counts, comparison.items, most=most)
    distance = most - loss.estimate
    width = loss.high - loss.estimate if distance > 0 else loss.estimate - loss.low
    if abs(distance) * math.sqrt(MOST_ITEMS / comparison.items) <= width:
        return None
    # NB: the width of an interval shrinks with the root of the number of items.
    wanted = math.ceil(comparison.items * (width / distance) ** 2)
    if distance > 0:
        wanted = max(wanted, math.ceil(math.log(_TAIL) / math.log1p(-min(distance, 1 - 1e-9))))
    return wanted + 1


def fewest_items(most: float, *, right_or_wrong: bool) -> int:
    """Return the least number of items at which a candidate without any loss is below `most`.

    `right_or_wrong` says that each score is 0 or 1. Others lie anywhere between both.
    """
    if right_or_wrong:
        found = _items_of_proportions(0, 0, 1, most=most)
        return MOST_ITEMS if found is None else found
    return math.floor(math.log(_TAIL) / math.log1p(-most)) + 1


def _items_of_proportions(lost: int, won: int, items: int, *, most: float) -> int | None:
    """Return the least number of items with these shares of lost and won ones that gives a clear verdict."""

    def clear(number: int) -> bool:
        share = number / items
        loss = _tango(lost * share, won * share, number)
        return loss.high < most or loss.low >= most

    low, high = items, items
    while not clear(high):
        low, high = high, 2 * high
        if low > MOST_ITEMS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if clear(middle) else (middle, high)
    return high


def _growth(rate: float) -> float:
    return math.expm1(min(rate, 700.0)) if math.isfinite(rate) else math.copysign(math.inf, rate)


def _binary(values: np.ndarray) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


def _tango(lost: float, won: float, items: int) -> Interval:
    """Return Tango's interval of the difference of two paired proportions (formulas 6 and 7 of the paper)."""
    edge = 1 - 1e-12

    def distance(delta: float) -> float:
        double = 2 * items
        linear = -lost - won + (double - lost + won) * delta
        constant = -won * delta * (1 - delta)
        won_share = (math.sqrt(max(0.0, linear**2 - 4 * double * constant)) - linear) / (2 * double)
        variance = items * (2 * won_share + delta * (1 - delta))
        return (lost - won - items * delta) / math.sqrt(max(variance, 1e-300))

    estimate = (lost - won) / items
    high = low = estimate
    if estimate < edge:
        high = float(optimize.brentq(lambda delta: distance(delta) + _Z, estimate, edge))
    if estimate > -edge:
        low = float(optimize.brentq(lambda delta: distance(delta) - _Z, -edge, estimate))
    return Interval(low, estimate, high)


def _proportions(lost: int, won: int, items: int) -> Comparison:
    different = lost + won
    p = float(stats.binomtest(lost, different).pvalue) if different else 1.0
    return Comparison(items, _tango(lost, won, items), p=p, counts=(lost, won))


def _differences(values: np.ndarray, *, bounds: tuple[float, float], seed: int) -> Comparison:
    """Judge bounded differences. The interval admits what so small a sample may not have shown.

    A difference at a bound that occurs in a share q of all items is missing among n with probability (1 - q)^n.
    """
    found = _bootstrap(values, seed=seed)
    unseen = 1 - _TAIL ** (1 / len(values))
    least, most = bounds
    loss = Interval(
        min(found.low, found.estimate - unseen * (found.estimate - least)),
        found.estimate,
        max(found.high, found.estimate + unseen * (most - found.estimate)),
    )
    return Comparison(len(values), loss, p=_sign_flips(values, seed=seed))


def _bootstrap(values: np.ndarray, *, seed: int) -> Interval:
    estimate = float(values.mean())
    if np.ptp(values) == 0 or len(values) < 2:
        return Interval(estimate, estimate, estimate)
    found = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=_RESAMPLES,
        confidence_level=CONFIDENCE,
        method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(found.low), estimate, float(found.high))


def _sign_flips(values: np.ndarray, *, seed: int) -> float:
    if not np.any(values):
        return 1.0
    found = stats.permutation_test(
        (values,),
        np.mean,
        permutation_type="samples",
        n_resamples=_RESAMPLES,
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)
