"""Intervals hold at all times together, and narrow as values come."""

import dataclasses
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream_operator.core.comparison import intervals
from slipstream_operator.core.comparison.totals import Totals

RUNS = 300


def _of(values: list[float]) -> Totals:
    return Totals(len(values), sum(values), sum(value * value for value in values))


def _ever_outside(chance: random.Random, *, share: float, error: float, spread: float) -> bool:
    """Whether the true difference, zero, is outside after any of 2,000 values of a skewed distribution."""
    arms = [Totals(), Totals()]
    for _ in range(2_000):
        value = math.log(chance.gammavariate(1.0 / spread, spread))
        number = chance.random() < share
        arms[number] += Totals(1, value, value * value)
        found = intervals.mean_difference(*arms, error=error, sought=0.05)
        if found is not None and not found.low <= 0.0 <= found.high:
            return True
    return False


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_equal_means_leave_the_interval_no_more_often_than_stated(share: float) -> None:
    chance = random.Random(7)
    outside = sum(_ever_outside(chance, share=share, error=0.05, spread=0.5) for _ in range(RUNS))
    # Three standard deviations above the stated share.
    assert outside <= RUNS * 0.05 + 3 * math.sqrt(RUNS * 0.05 * 0.95)


def test_a_difference_of_a_fifth_is_seen_within_200_values_that_spread_by_a_tenth() -> None:
    chance = random.Random(1)
    stable = _of([chance.gauss(0.0, 0.1) for _ in range(100)])
    canary = _of([chance.gauss(math.log(1.2), 0.1) for _ in range(100)])
    found = intervals.mean_difference(stable, canary, error=0.001, sought=0.05)
    assert found is not None
    assert found.low > math.log(1.05)


def test_values_that_depend_on_each_other_widen_the_interval() -> None:
    arm = _of([math.sin(number) for number in range(100)])
    plain, wide = (
        intervals.mean_difference(arm, arm, error=0.01, sought=0.1, inflation=by)
        for by in (1.0, 4.0)
    )
    assert plain is not None
    assert wide is not None
    assert wide.high > 1.5 * plain.high


def test_a_few_values_give_no_interval_of_a_mean() -> None:
    one, many = _of([1.0]), _of([1.0, 2.0] * 100)
    assert intervals.mean_difference(one, many, error=0.01, sought=0.1) is None
    assert intervals.mean_difference(many, one, error=0.01, sought=0.1) is None
    few = _of([1.0, 2.0] * 5)
    assert intervals.mean_difference(few, few, error=0.01, sought=0.1) is None


def test_a_variance_of_a_few_values_widens_the_interval() -> None:
    values = [1.0, 2.0] * 20
    known, estimated = (
        dataclasses.replace(_of(values), freedom=freedom) for freedom in (1e9, 16.0)
    )
    wide, narrow = (
        intervals.mean_difference(arm, arm, error=0.01, sought=0.1) for arm in (estimated, known)
    )
    assert wide is not None
    assert narrow is not None
    assert wide.high > 1.1 * narrow.high


@given(st.integers(0, 500), st.integers(1, 500), st.sampled_from([0.001, 0.05]))
def test_a_share_lies_inside_its_interval(hits: int, count: int, error: float) -> None:
    hits = min(hits, count)
    found = intervals.share(hits, count, error=error)
    assert 0.0 <= found.low <= hits / count <= found.high <= 1.0
    wider = intervals.share(hits, count, error=error / 10)
    assert wider.low <= found.low
    assert found.high <= wider.high


def test_a_true_share_leaves_its_interval_no_more_often_than_stated() -> None:
    chance, outside = random.Random(3), 0
    for _ in range(RUNS):
        hits = 0
        for count in range(1, 301):
            hits += chance.random() < 0.02
            found = intervals.share(hits, count, error=0.05)
            if not found.low <= 0.02 <= found.high:
                outside += 1
                break
    assert outside <= RUNS * 0.05 + 3 * math.sqrt(RUNS * 0.05 * 0.95)


def test_no_hit_in_a_few_values_is_no_proof_of_none() -> None:
    assert intervals.share(0, 20, error=0.01).high > 0.2
    assert intervals.share_difference((0, 100), (0, 0), error=0.01) is None
