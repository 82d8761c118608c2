"""Statistics of paired scores: the loss of a candidate against a baseline, with its confidence interval. Pure.

Scores of 0 and 1 are compared by Tango's score interval for paired proportions, and by McNemar's exact test. (Tango:
"Equivalence test and confidence interval for the difference in proportions for the paired-sample design", 1998.)
Other scores are compared by Gaffke's interval for bounded values: a bootstrap with Dirichlet weights, to which the
bound itself belongs as one more item. So it admits what the items have not shown. For values of 0 and 1 it equals
Clopper's and Pearson's interval. (Gaffke: "Three test statistics for a nonparametric one-sided hypothesis on the mean
of a nonnegative variable", 2005.) Their test flips the signs of the differences.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from scipy import optimize, stats

CONFIDENCE: Final = 0.95
"""Confidence of every interval; each end is exceeded in 2.5 % of the cases."""
_TAIL: Final = (1 - CONFIDENCE) / 2
_Z: Final = float(stats.norm.isf(_TAIL))
_POWER: Final = float(stats.norm.ppf(0.8))
"""Standard errors by which a recommended number of items allows the next estimate to be off: it then does in 80 %."""
_RESAMPLES: Final = 4999
_DRAWN: Final = 2_000_000
"""Random numbers that are in memory at once."""
_MANY: Final = 20_000
"""Different values above which means are normally distributed for every purpose, and nothing is drawn."""
FEWEST_TEXTS: Final = 30
"""Texts below which the bootstrap of an unbounded score is not trusted. Convention of introductory statistics."""
_WORST_RATE: Final = 1.0
"""Nats by which each token of an unseen text may be less likely: a perplexity 2.7 times as high, as of another task."""
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
    deviation: float = 0.0
    """Standard deviation of one item's loss; of a perplexity, that of its logarithm."""
    room: tuple[float, float] = (2.0, 2.0)
    """Distances of the loss from the least and the greatest that an item can have, in the same unit."""
    logarithmic: bool = False
    """Whether the loss is the growth of a perplexity."""


def mean(scores: Sequence[float], *, seed: int = 0) -> Interval:
    """Return the mean score: Wilson's interval for scores of 0 and 1, else Gaffke's."""
    values = np.asarray(scores, float)
    if _binary(values):
        found = stats.binomtest(int(values.sum()), len(values)).proportion_ci(
            CONFIDENCE, method="wilson"
        )
        return Interval(float(found.low), float(values.mean()), float(found.high))
    return _bounded(values, bounds=(0.0, 1.0), seed=seed)


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
    with a text that one of the models finds impossible. Otherwise it is Gaffke's, for texts that lose at most
    `_WORST_RATE`, or as much as the worst one.
    """
    amounts, tokens = np.asarray(excess, float), np.asarray(sizes, float)
    if not np.isfinite(amounts).all():
        return Comparison(len(amounts), Interval(-math.inf, math.inf, math.inf), p=math.nan)
    estimate = float(amounts.sum() / tokens.sum())
    low, high = -math.inf, math.inf
    if len(amounts) >= FEWEST_TEXTS:
        low, high = _rates(amounts, tokens, seed=seed)
    loss = Interval(_growth(low), _growth(estimate), _growth(high))
    worst = _worst_rate(amounts, tokens)
    return Comparison(
        len(amounts),
        loss,
        p=_sign_flips(amounts, seed=seed),
        deviation=float((amounts - estimate * tokens).std() / tokens.mean()),
        room=(worst + estimate, worst - estimate),
        logarithmic=True,
    )


def judge(comparison: Comparison, *, most: float) -> Verdict:
    """Judge a loss: it passes only if the upper end of its interval is below `most`."""
    if comparison.loss.high < most:
        return Verdict.PASSED
    if comparison.loss.low >= most:
        return Verdict.FAILED
    return Verdict.INCONCLUSIVE


def items_needed(comparison: Comparison, *, most: float) -> int | None:
    """Return the number of items that would separate a loss of this size from `most`; None if none would.

    It would in four of five runs if this loss were the true one.
    """
    loss = comparison.loss
    if not math.isfinite(loss.high) or not math.isfinite(loss.low):
        return FEWEST_TEXTS if comparison.items < FEWEST_TEXTS else None
    if comparison.counts is not None:
        return _items_of_proportions(*comparison.counts, comparison.items, most=most)
    distance = most - loss.estimate
    if comparison.logarithmic:
        distance = math.log1p(most) - math.log1p(loss.estimate)
    if distance == 0:
        return None
    # NB: the width has a part that shrinks with the root of the number, and one of what was not seen, with the number.
    spread = (_Z + _POWER) * comparison.deviation
    unseen = -math.log(_TAIL) * comparison.room[distance > 0]
    width = spread + math.sqrt(spread**2 + 4 * abs(distance) * unseen)
    wanted = math.ceil((width / (2 * distance)) ** 2)
    return None if wanted > MOST_ITEMS else wanted


def fewest_items(most: float, *, right_or_wrong: bool) -> int:
    """Return the least number of items at which a candidate without any loss is below `most`.

    `right_or_wrong` says that each score is 0 or 1. Others lie anywhere between both.
    """
    if right_or_wrong:
        found = _items_of_proportions(0, 0, 1, most=most)
        return MOST_ITEMS if found is None else found
    return math.floor(math.log(_TAIL) / math.log1p(-most)) + 1


def fewest_texts(most: float) -> int:
    """Return the least number of texts of one length at which a candidate without any loss is below `most`."""
    unseen = math.log1p(most) / _WORST_RATE
    return max(FEWEST_TEXTS, math.ceil(math.log(_TAIL) / math.log1p(-min(unseen, 1 - 1e-9))))


def _items_of_proportions(lost: int, won: int, items: int, *, most: float) -> int | None:
    """Return the least number of items with these shares of lost and won ones that gives a clear verdict."""

    loss = (lost - won) / items
    deviation = math.sqrt(max((lost + won) / items - loss**2, 0.0))

    def clear(number: int) -> bool:
        """Whether this number tells even if the loss comes out less clearly than it is."""
        share = number / items
        unlucky = _POWER * deviation * math.sqrt(number)
        if loss < most:
            return _tango(lost * share + unlucky, won * share, number).high < most
        # NB: what is lost less is won more where there is nothing to lose.
        rest = lost * share - unlucky
        return _tango(max(rest, 0.0), won * share + max(-rest, 0.0), number).low >= most

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
    loss = _bounded(values, bounds=bounds, seed=seed)
    least, most = bounds
    return Comparison(
        len(values),
        loss,
        p=_sign_flips(values, seed=seed),
        deviation=float(values.std()),
        room=(loss.estimate - least, most - loss.estimate),
    )


def _bounded(values: np.ndarray, *, bounds: tuple[float, float], seed: int) -> Interval:
    """Return the mean of values between two bounds with Gaffke's interval.

    The weights of an upper end are those of Dirichlet's distribution over the values and the upper bound.
    """
    least, most = bounds
    different, counts = np.unique(values, return_counts=True)
    estimate, items = float(values.mean()), len(values)
    if len(different) == 1:
        unseen = 1 - _TAIL ** (1 / items)
        low, high = (estimate + unseen * (bound - estimate) for bound in bounds)
    elif len(different) > _MANY:
        spread = _Z * float(values.std()) / math.sqrt(items)
        low, high = (estimate + (bound - estimate) / items for bound in bounds)
        low, high = low - spread, high + spread
    else:
        random = np.random.default_rng(seed)
        once, often = different[counts == 1], different[counts > 1]
        drawn = []
        for rows in _parts(len(different)):
            # NB: the weight of a value that occurs n times is the sum of n exponential ones.
            single = random.standard_exponential((rows, len(once)))
            several = random.gamma(counts[counts > 1], size=(rows, len(often)))
            last = random.standard_exponential(rows)
            total = single.sum(1) + several.sum(1) + last
            drawn.append((single @ once + several @ often, last, total))
        top, last, total = np.concatenate(drawn, axis=1)
        low = float(np.quantile((top + last * least) / total, _TAIL))
        high = float(np.quantile((top + last * most) / total, 1 - _TAIL))
    return Interval(max(min(low, estimate), least), estimate, min(max(high, estimate), most))


def _worst_rate(amounts: np.ndarray, tokens: np.ndarray) -> float:
    return max(float(np.abs(amounts / tokens).max()), _WORST_RATE)


def _rates(amounts: np.ndarray, tokens: np.ndarray, *, seed: int) -> tuple[float, float]:
    """Return the ends of the excess of a token over all texts, where one more text is at the bound."""
    worst = _worst_rate(amounts, tokens)
    # NB: the text of a token that was not seen: long texts have more of them.
    length = float((tokens**2).sum() / tokens.sum())
    random = np.random.default_rng(seed)
    drawn = []
    for rows in _parts(len(amounts)):
        weights = random.standard_exponential((rows, len(amounts)))
        last = random.standard_exponential(rows) * length
        drawn.append((weights @ amounts, last, weights @ tokens + last))
    top, last, total = np.concatenate(drawn, axis=1)
    low = np.quantile((top - last * worst) / total, _TAIL)
    high = np.quantile((top + last * worst) / total, 1 - _TAIL)
    return float(low), float(high)


def _sign_flips(values: np.ndarray, *, seed: int) -> float:
    """Return the share of sign patterns with a sum at least as far from 0 as the one that was seen."""
    nonzero = values[values != 0]
    if not len(nonzero):
        return 1.0
    seen = abs(float(nonzero.sum())) * (1 - 1e-9)
    if len(nonzero) > _MANY:
        return float(2 * stats.norm.sf(seen / math.sqrt(float((nonzero**2).sum()))))
    if 2 ** len(nonzero) <= _RESAMPLES:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=len(nonzero))))
        return float((np.abs(signs @ nonzero) >= seen).mean())
    random = np.random.default_rng(seed)
    extreme = 0
    for rows in _parts(len(nonzero)):
        kept = random.integers(0, 2, (rows, len(nonzero)), dtype=np.int8).astype(float)
        extreme += int((np.abs(2 * (kept @ nonzero) - nonzero.sum()) >= seen).sum())
    return (extreme + 1) / (_RESAMPLES + 1)


def _parts(width: int) -> Iterator[int]:
    """Yield numbers of resamples of this width that fit into memory, until all are drawn."""
    rows = max(1, _DRAWN // width)
    for start in range(0, _RESAMPLES, rows):
        yield min(rows, _RESAMPLES - start)
