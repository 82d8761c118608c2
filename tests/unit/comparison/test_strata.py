"""Requests of two revisions are compared within strata, and count by their precision."""

import math
import random

import pytest

from slipstream_operator.core.comparison import strata
from slipstream_operator.core.comparison.strata import Strata
from slipstream_operator.core.comparison.totals import Totals


def totals(*values: float) -> Totals:
    return Totals(len(values), sum(values), sum(value * value for value in values))


def normal(chance: random.Random, mean: float, count: int, spread: float = 0.1) -> Totals:
    return totals(*(chance.gauss(mean, spread) for _ in range(count)))


def difference(stable: Strata, canary: Strata) -> float:
    matched = strata.match(stable, canary)
    assert matched is not None
    before, after = matched
    return after.mean - before.mean


def test_another_mix_of_strata_makes_no_difference() -> None:
    chance = random.Random(1)
    stable = {1.0: normal(chance, 0.0, 50), 8.0: normal(chance, 2.0, 950)}
    canary = {1.0: normal(chance, 0.0, 95), 8.0: normal(chance, 2.0, 5)}
    assert abs(difference(stable, canary)) < 0.06
    assert difference(stable, {b: t for b, t in canary.items() if b == 1.0}) < 0.06


def test_a_difference_within_strata_is_the_same_as_without_them() -> None:
    chance = random.Random(2)
    stable = {1.0: normal(chance, 0.0, 500), 8.0: normal(chance, 2.0, 500)}
    canary = {1.0: normal(chance, 0.2, 100), 8.0: normal(chance, 2.2, 300)}
    assert difference(stable, canary) == pytest.approx(0.2, abs=0.03)


def test_the_variance_between_strata_does_not_count() -> None:
    chance = random.Random(3)
    arms = [{b: normal(chance, math.log(b), 200) for b in (1.0, 8.0, 64.0)} for _ in range(2)]
    matched = strata.match(*arms)
    assert matched is not None
    for arm in matched:
        assert arm.variance == pytest.approx(0.01, rel=0.2)


def test_few_stable_values_where_the_canary_has_many_count_as_few() -> None:
    chance = random.Random(4)
    stable = {1.0: normal(chance, 0.0, 4), 8.0: normal(chance, 1.0, 1_000)}
    matched = strata.match(stable, {1.0: normal(chance, 0.0, 500)})
    assert matched is not None
    assert matched[0].count == pytest.approx(4.0)


def test_a_canary_with_less_load_is_compared_with_the_next_load_above() -> None:
    chance = random.Random(5)
    stable = {8.0: normal(chance, 1.0, 500), 16.0: normal(chance, 2.0, 500)}
    assert difference(stable, {2.0: normal(chance, 0.5, 50)}) < -0.4
    assert difference(stable, {2.0: normal(chance, 1.5, 50)}) > 0.4


def test_a_canary_beyond_all_stable_values_is_not_compared() -> None:
    chance = random.Random(6)
    stable = {8.0: normal(chance, 1.0, 500)}
    assert strata.match(stable, {16.0: normal(chance, 3.0, 50)}) is None
    assert strata.match({}, {16.0: normal(chance, 3.0, 50)}) is None
    assert strata.match(stable, {}) is None


def test_a_few_values_of_the_canary_have_at_least_the_stable_variance() -> None:
    chance = random.Random(7)
    stable = {1.0: normal(chance, 0.0, 500, spread=0.5)}
    matched = strata.match(stable, {1.0: totals(0.1, 0.1, 0.1)})
    assert matched is not None
    assert matched[1].variance == pytest.approx(matched[0].variance)
