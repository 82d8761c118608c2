"""Scores of a run: each metric over all items and by slice, with the comparison against the baseline. Pure."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from slipstream_runtime.evaluate.quality import metrics, statistics
from slipstream_runtime.evaluate.quality.items import Item
from slipstream_runtime.evaluate.quality.metrics import METRICS, Name
from slipstream_runtime.evaluate.quality.observations import Observation
from slipstream_runtime.evaluate.quality.statistics import Comparison, Interval, Verdict

MOST_SLICES: Final = 100
"""Slices that a report shows, each with its intervals."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Observations of one item. `points` are the judge's; None without a vote or a judge."""

    item: Item
    candidate: Observation
    baseline: Observation | None = None
    points: float | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """Score of a metric over some items."""

    items: int
    candidate: Interval | None
    """None without an item that could be scored."""
    baseline: Interval | None = None
    comparison: Comparison | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """Metric of a run."""

    name: str
    total: Score
    slices: Mapping[str, Score]
    slices_left_out: int = 0
    """Slices beyond `MOST_SLICES`, those with the fewest items."""
    left_out: int = 0
    """Items of the dataset that could not be scored: the baseline or the judge gave no answer."""
    refused: int = 0
    """Items that the candidate refused; they count as wrong."""
    max_regression: float | None = None
    verdict: Verdict | None = None
    """None for a metric without a greatest loss."""
    items_needed: int | None = None
    """Items at which an inconclusive comparison could be told; None if none would do, or it is clear."""
    divergence: float | None = None
    """Mean KL divergence of the first tokens, in nats; only of Agreement."""
    worst: tuple[tuple[float, Pair], ...] = field(default=(), repr=False)
    """Items with the greatest losses, each with its loss; above 0 only."""


def result(
    name: Name,
    pairs: Sequence[Pair],
    *,
    max_regression: float | None,
    worst: int = 0,
    seed: int = 0,
) -> Result:
    """Return the result of one metric over the items to which it applies."""
    usable = [pair for pair in pairs if _usable(name, pair)]
    scored = _SCORERS.get(name, _plain)
    slices: dict[str, list[Pair]] = {}
    for pair in usable:
        slices.setdefault(pair.item.slice, []).append(pair)
    total = scored(name, usable, seed)
    verdict, needed = _verdict(total, max_regression)
    shown = sorted(slices, key=lambda key: (-len(slices[key]), key))[:MOST_SLICES]
    return Result(
        name,
        total=total,
        slices={key: scored(name, slices[key], seed) for key in sorted(shown) if len(slices) > 1},
        slices_left_out=len(slices) - len(shown),
        left_out=len(pairs) - len(usable),
        refused=sum(pair.candidate.error is not None for pair in usable),
        max_regression=max_regression,
        verdict=verdict,
        items_needed=needed,
        divergence=_divergence(usable) if name is Name.AGREEMENT else None,
        worst=_worst(name, usable, most=worst),
    )


def measured(
    name: str,
    after: Mapping[str, float | None],
    before: Mapping[str, float | None] | None,
    *,
    max_regression: float | None,
    seed: int = 0,
) -> Result:
    """Return the result of scores between 0 and 1 that were measured elsewhere, by the name of their item.

    None is an item that the model refused: it counts as wrong, and is left out if the baseline refused it.
    """
    known = None if before is None else {k: v for k, v in before.items() if v is not None}
    shared = [key for key in after if known is None or key in known]
    score = _compared(
        [after[key] or 0.0 for key in shared],
        None if known is None else [known[key] for key in shared],
        seed,
    )
    verdict, needed = _verdict(score, max_regression)
    return Result(
        name,
        score,
        slices={},
        left_out=len(after.keys() | (before or {}).keys()) - len(shared),
        refused=sum(after[key] is None for key in shared),
        max_regression=max_regression,
        verdict=verdict,
        items_needed=needed,
    )


def overall(results: Sequence[Result]) -> Verdict | None:
    """Return the verdict of the run: it passes only if each judged metric passes. None if no metric is judged.

    As each metric must pass, no correction for their number is needed (intersection-union test; Berger 1982).
    """
    verdicts = [found.verdict for found in results if found.verdict is not None]
    for verdict in (Verdict.FAILED, Verdict.INCONCLUSIVE, Verdict.PASSED):
        if verdict in verdicts:
            return verdict
    return None


def shows_nothing(score: Score, most: float) -> bool:
    """Whether the baseline scores so little that no candidate could lose more than `most`."""
    return score.baseline is not None and score.baseline.estimate <= most


def _verdict(score: Score, most: float | None) -> tuple[Verdict | None, int | None]:
    if most is None:
        return None, None
    comparison = score.comparison
    if comparison is None or shows_nothing(score, most):
        return Verdict.INCONCLUSIVE, None
    verdict = statistics.judge(comparison, most=most)
    if verdict is not Verdict.INCONCLUSIVE:
        return verdict, None
    return verdict, statistics.items_needed(comparison, most=most)


def _usable(name: Name, pair: Pair) -> bool:
    if pair.baseline is not None and pair.baseline.error is not None:
        return False
    return name is not Name.JUDGE or pair.points is not None or pair.candidate.error is not None


def _loss(name: Name, pair: Pair) -> float:
    """Return the loss of one item, for the list of the worst."""
    if pair.baseline is None:
        return 1.0 - _of_one(name, pair.item, pair.candidate)
    if name is Name.PERPLEXITY:
        return _excess(pair)[0]
    if name is Name.AGREEMENT:
        return 1.0 - metrics.agreement(pair.baseline, pair.candidate)
    if name is Name.JUDGE:
        return 0.5 - (pair.points or 0.0)
    return _of_one(name, pair.item, pair.baseline) - _of_one(name, pair.item, pair.candidate)


def _worst(name: Name, pairs: Sequence[Pair], *, most: int) -> tuple[tuple[float, Pair], ...]:
    if not most or name is Name.PERPLEXITY:
        return ()
    losses = [(_loss(name, pair), pair) for pair in pairs]
    losses.sort(key=lambda entry: -entry[0])
    return tuple(entry for entry in losses[:most] if entry[0] > 0)


def _of_one(name: Name, item: Item, seen: Observation) -> float:
    score = METRICS[name].score
    assert score is not None
    return score(item, seen) if seen.error is None else 0.0


def _plain(name: Name, pairs: Sequence[Pair], seed: int) -> Score:
    """Score answers one by one, and compare them with the baseline's."""
    after = [_of_one(name, pair.item, pair.candidate) for pair in pairs]
    before = [
        _of_one(name, pair.item, pair.baseline) for pair in pairs if pair.baseline is not None
    ]
    return _compared(after, before or None, seed)


def _compared(after: Sequence[float], before: Sequence[float] | None, seed: int) -> Score:
    """Return the score of a candidate, and its comparison with a baseline's scores of the same items."""
    if not after:
        return Score(0, None)
    candidate = statistics.mean(after, seed=seed)
    if before is None:
        return Score(len(after), candidate)
    return Score(
        len(after),
        candidate,
        baseline=statistics.mean(before, seed=seed),
        comparison=statistics.compare(before, after, seed=seed),
    )


def _agreement(name: Name, pairs: Sequence[Pair], seed: int) -> Score:
    shares = [
        metrics.agreement(pair.baseline, pair.candidate) if pair.candidate.error is None else 0.0
        for pair in pairs
        if pair.baseline is not None
    ]
    if not shares:
        return Score(0, None)
    losses = [1.0 - share for share in shares]
    return Score(
        len(shares),
        statistics.mean(shares, seed=seed),
        comparison=statistics.compare_losses(losses, least=0.0, most=1.0, seed=seed),
    )


def _judged(name: Name, pairs: Sequence[Pair], seed: int) -> Score:
    found = [pair.points if pair.candidate.error is None else 0.0 for pair in pairs]
    points = [value for value in found if value is not None]
    if not points:
        return Score(0, None)
    return Score(
        len(points),
        statistics.mean(points, seed=seed),
        comparison=statistics.compare_losses(
            [0.5 - value for value in points], least=-0.5, most=0.5, seed=seed
        ),
    )


def _perplexity(name: Name, pairs: Sequence[Pair], seed: int) -> Score:
    """Score texts by perplexity for each token of the model's own tokenizer."""
    answered = [pair for pair in pairs if pair.candidate.error is None]
    if not answered or len(answered) < len(pairs):
        # NB: a text without a likelihood is neither right nor wrong, and the others alone could hide it.
        return Score(len(answered), None)
    candidate = _perplexity_of([pair.candidate for pair in answered])
    known = [pair for pair in answered if pair.baseline is not None]
    if len(known) < len(answered):
        return Score(len(answered), candidate)
    before = [pair.baseline for pair in known if pair.baseline is not None]
    excess = [_excess(pair) for pair in known]
    return Score(
        len(known),
        candidate,
        baseline=_perplexity_of(before),
        comparison=statistics.compare_rates(
            [amount for amount, _ in excess], [tokens for _, tokens in excess], seed=seed
        ),
    )


def _excess(pair: Pair) -> tuple[float, float]:
    """Return the candidate's surplus of negative log-likelihood, in nats, and the baseline's tokens of the text."""
    assert pair.baseline is not None
    before, tokens, _ = pair.baseline.likelihoods[0]
    after, _, _ = pair.candidate.likelihoods[0]
    return before - after, max(tokens, 1)


def _perplexity_of(seen: Sequence[Observation]) -> Interval:
    total = sum(found.likelihoods[0][0] for found in seen)
    tokens = sum(found.likelihoods[0][1] for found in seen)
    value = math.exp(min(-total / max(tokens, 1), 700.0))
    return Interval(value, value, value)


def _divergence(pairs: Sequence[Pair]) -> float | None:
    found = [
        metrics.divergence(pair.baseline, pair.candidate)
        for pair in pairs
        if pair.baseline is not None and pair.candidate.error is None
    ]
    values = [value for value in found if value is not None]
    return sum(values) / len(values) if values else None


_SCORERS: Mapping[Name, Callable[[Name, Sequence[Pair], int], Score]] = {
    Name.AGREEMENT: _agreement,
    Name.JUDGE: _judged,
    Name.PERPLEXITY: _perplexity,
}
