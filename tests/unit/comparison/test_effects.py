"""Values that depend on each other are worth fewer independent ones."""

import itertools
import math
import random

import pytest

from slipstream_operator.core.comparison import effects
from slipstream_operator.core.comparison.effects import Tick
from slipstream_operator.core.comparison.totals import Totals


def _ticks(chance: random.Random, *, shared: float, keep: float, rounds: int) -> effects.Ticks:
    """Return rounds of ten values, each the sum of an own part and a part that all of its moment share."""
    found: effects.Ticks = ()
    state = chance.gauss(0.0, shared)
    for _ in range(rounds):
        state = keep * state + chance.gauss(0.0, shared * (1 - keep * keep) ** 0.5)
        total = sum(state + chance.gauss(0.0, 1.0) for _ in range(10))
        found = effects.appended(found, Tick(10, total))
    return found


def test_independent_values_count_fully() -> None:
    chance = random.Random(1)
    found = [
        effects.of_rounds(_ticks(chance, shared=0.0, keep=0.0, rounds=100), variance=1.0)
        for _ in range(50)
    ]
    assert min(found) >= 1.0
    assert sum(found) / len(found) < 2.0


def test_values_that_share_the_state_of_their_moment_count_for_less() -> None:
    chance = random.Random(2)
    found = effects.of_rounds(_ticks(chance, shared=1.0, keep=0.0, rounds=200), variance=2.0)
    # Ten values of variance 1 + 1 whose means have the variance 1 + 1/10.
    assert found == pytest.approx(5.5, rel=0.4)


def test_a_state_that_lasts_for_several_rounds_counts_for_more_than_one_round_shows() -> None:
    chance = random.Random(3)
    short = effects.of_rounds(_ticks(chance, shared=1.0, keep=0.0, rounds=400), variance=2.0)
    long = effects.of_rounds(_ticks(chance, shared=1.0, keep=0.9, rounds=400), variance=2.0)
    assert long > 2 * short


def test_many_rounds_take_bounded_memory_and_keep_all_values() -> None:
    chance = random.Random(4)
    found = _ticks(chance, shared=0.0, keep=0.0, rounds=3_000)
    assert len(found) <= 600
    assert sum(tick.number for tick in found) == 30_000


def test_equal_values_have_no_effect() -> None:
    assert effects.of_rounds((Tick(5, 0.0),) * 20, variance=0.0) == 1.0


def test_a_few_rounds_show_nothing() -> None:
    assert effects.of_rounds((Tick(5, 1.0), Tick(5, -1.0)), variance=1.0) == math.inf


def test_successive_values_show_their_correlation() -> None:
    chance, state, values = random.Random(5), 0.0, []
    for _ in range(5_000):
        state = 0.7 * state + chance.gauss(0.0, math.sqrt(1 - 0.49))
        values.append(state)
    steps = sum((after - before) ** 2 / 2 for before, after in itertools.pairwise(values))
    assert effects.correlation(steps, expected=len(values) - 1) == pytest.approx(0.7, abs=0.05)
    assert effects.correlation(9.0, expected=5.0) == 0.0
    assert effects.correlation(0.0, expected=0.0) == 0.0


def test_a_replica_whose_answers_all_agree_is_worth_one_value() -> None:
    assert effects.of_replicas(30.0, apart=1.0, near=1.0, overlap=4.0) == 30.0
    assert effects.of_replicas(30.0, apart=0.0, near=0.0, overlap=4.0) == 1.0
    assert effects.of_replicas(30.0, apart=0.0, near=0.5, overlap=4.0) == 5.0
    assert effects.of_replicas(0.5, apart=1.0, near=1.0, overlap=4.0) == 1.0


def test_values_of_strata_without_stable_values_are_left_out() -> None:
    new = {1.0: Totals(4, 8.0, 16.0), 9.0: Totals(4, 80.0, 1600.0)}
    assert effects.residual(new, {1.0: 1.5}) == Tick(4, 2.0)
    assert effects.residual(new, {5.0: 1.5}) is None
