"""Statistics of paired scores: intervals that cover the truth, and verdicts that few items can't give."""

import math
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream_runtime.evaluate.quality import statistics
from slipstream_runtime.evaluate.quality.statistics import Verdict


def test_equal_answers_to_few_items_are_inconclusive_and_the_number_that_tells_is_least() -> None:
    few = statistics.compare([1.0] * 100, [1.0] * 100)
    assert statistics.judge(few, most=0.01) is Verdict.INCONCLUSIVE
    needed = statistics.items_needed(few, most=0.01)
    assert needed is not None
    enough = statistics.compare([1.0] * needed, [1.0] * needed)
    assert statistics.judge(enough, most=0.01) is Verdict.PASSED
    less = statistics.compare([1.0] * (needed - 1), [1.0] * (needed - 1))
    assert statistics.judge(less, most=0.01) is Verdict.INCONCLUSIVE


def test_without_different_items_the_upper_end_is_that_of_the_closed_form() -> None:
    found = statistics.compare([1.0] * 400, [1.0] * 400).loss
    z2 = 1.959963984540054**2
    assert found.high == pytest.approx(z2 / (400 + z2))
    assert found.low == pytest.approx(-found.high)


@given(lost=st.integers(0, 40), won=st.integers(0, 40), same=st.integers(0, 200))
def test_the_ends_of_a_loss_are_where_the_score_test_changes(
    lost: int, won: int, same: int
) -> None:
    if lost + won + same == 0:
        return
    before = [1.0] * lost + [0.0] * won + [1.0] * same
    after = [0.0] * lost + [1.0] * won + [1.0] * same
    found = statistics.compare(before, after)
    swapped = statistics.compare(after, before)
    assert found.loss.low <= found.loss.estimate <= found.loss.high
    assert found.loss.low == pytest.approx(-swapped.loss.high, abs=1e-6)
    assert found.p == swapped.p


def test_the_interval_of_paired_answers_covers_the_true_loss() -> None:
    random = np.random.default_rng(1)
    lost, won, items, truth = 0.06, 0.02, 300, 0.04
    covered = 0
    for _ in range(400):
        kinds = random.choice(3, size=items, p=[lost, won, 1 - lost - won])
        before = np.where(kinds == 1, 0.0, 1.0)
        after = np.where(kinds == 0, 0.0, 1.0)
        loss = statistics.compare(before.tolist(), after.tolist()).loss
        covered += loss.low <= truth <= loss.high
    assert covered >= 0.93 * 400


def test_an_identical_candidate_hardly_ever_passes_with_a_loss_at_the_bound() -> None:
    """A candidate whose true loss equals the bound passes in 2.5 % of the runs."""
    random = np.random.default_rng(2)
    passed = 0
    for _ in range(400):
        kinds = random.choice(3, size=400, p=[0.05, 0.02, 0.93])
        before = np.where(kinds == 1, 0.0, 1.0)
        after = np.where(kinds == 0, 0.0, 1.0)
        found = statistics.compare(before.tolist(), after.tolist())
        passed += statistics.judge(found, most=0.03) is Verdict.PASSED
    assert passed <= 0.05 * 400


def test_graded_scores_that_never_differ_need_enough_items_too() -> None:
    same = [0.5] * 20
    found = statistics.compare(same, same)
    assert found.p == 1.0
    assert statistics.judge(found, most=0.05) is Verdict.INCONCLUSIVE
    needed = statistics.items_needed(found, most=0.05)
    assert needed is not None
    enough = statistics.compare([0.5] * needed, [0.5] * needed)
    assert statistics.judge(enough, most=0.05) is Verdict.PASSED


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=40))
def test_the_interval_of_graded_scores_holds_its_estimate(
    pairs: list[tuple[float, float]],
) -> None:
    before, after = [left for left, _ in pairs], [right for _, right in pairs]
    loss = statistics.compare(before, after).loss
    assert loss.low <= loss.estimate <= loss.high
    assert math.isfinite(loss.low)
    assert math.isfinite(loss.high)


def test_a_clear_loss_fails() -> None:
    found = statistics.compare([1.0] * 100, [0.0] * 40 + [1.0] * 60)
    assert statistics.judge(found, most=0.01) is Verdict.FAILED
    assert found.p < 1e-6


def test_a_loss_at_the_bound_can_be_told_by_no_number_of_items() -> None:
    found = statistics.compare([1.0] * 100, [0.0] + [1.0] * 99)
    assert statistics.judge(found, most=0.01) is Verdict.INCONCLUSIVE
    assert statistics.items_needed(found, most=0.01) is None


def test_perplexity_of_few_texts_is_inconclusive_and_of_many_is_judged_by_growth() -> None:
    few = statistics.compare_rates([0.1] * 10, [100.0] * 10)
    assert statistics.judge(few, most=0.5) is Verdict.INCONCLUSIVE
    assert statistics.items_needed(few, most=0.5) == 30
    random = np.random.default_rng(3)
    excess = random.normal(100 * math.log(1.02), 1.0, size=500)
    many = statistics.compare_rates(excess.tolist(), [100.0] * 500)
    assert many.loss.low < 0.02 < many.loss.high
    assert statistics.judge(many, most=0.05) is Verdict.PASSED
    assert statistics.judge(many, most=0.005) is Verdict.FAILED


def test_a_figure_that_is_no_number_passes_nothing() -> None:
    found = statistics.compare_rates([math.inf] + [0.0] * 40, [10.0] * 41)
    assert statistics.judge(found, most=0.5) is not Verdict.PASSED


@pytest.mark.parametrize("most", [0.01, 0.1, 0.5])
def test_the_fewest_items_are_those_at_which_no_loss_at_all_passes(most: float) -> None:
    for right_or_wrong in (True, False):
        needed = statistics.fewest_items(most, right_or_wrong=right_or_wrong)
        score = 1.0 if right_or_wrong else 0.5
        found = [
            statistics.judge(statistics.compare([score] * n, [score] * n), most=most)
            for n in (needed - 1, needed)
        ]
        assert found == [Verdict.INCONCLUSIVE, Verdict.PASSED]


@pytest.mark.parametrize("share", [0.03, 1.0])
def test_a_perplexity_that_a_few_long_texts_raise_hardly_ever_passes(share: float) -> None:
    """A candidate whose true loss equals the bound may pass in 2.5 % of the runs."""
    random = np.random.default_rng(4)
    items, scale = 60, 0.9 if share < 1 else 0.02

    def draw(number: int) -> tuple[np.ndarray, np.ndarray]:
        tokens = np.ceil(random.lognormal(4.5, 1.0, size=number))
        rates = np.where(random.random(number) < share, random.exponential(scale, number), 0.0)
        return np.minimum(rates, 1.0) * tokens, tokens

    amounts, tokens = draw(2_000_000)
    truth = math.expm1(amounts.sum() / tokens.sum())
    passed = 0
    for _ in range(100):
        found = statistics.compare_rates(*(part.tolist() for part in draw(items)))
        passed += statistics.judge(found, most=truth) is Verdict.PASSED
    assert passed <= 5


def test_the_fewest_texts_are_those_at_which_no_loss_at_all_passes() -> None:
    needed = statistics.fewest_texts(0.05)
    found = [
        statistics.judge(statistics.compare_rates([0.0] * n, [9.0] * n), most=0.05)
        for n in (round(0.9 * needed), round(1.1 * needed))
    ]
    assert found == [Verdict.INCONCLUSIVE, Verdict.PASSED]


def test_the_recommended_number_of_items_tells_in_four_of_five_runs() -> None:
    random = np.random.default_rng(5)

    def run(items: int) -> statistics.Comparison:
        kinds = random.choice(3, size=items, p=[0.04, 0.02, 0.94])
        before = np.where(kinds == 1, 0.0, 1.0)
        return statistics.compare(before.tolist(), np.where(kinds == 0, 0.0, 1.0).tolist())

    few = statistics.compare([1.0] * 98 + [0.0] * 2, [0.0] * 4 + [1.0] * 96)
    needed = statistics.items_needed(few, most=0.05)
    assert needed is not None
    told = sum(
        statistics.judge(run(needed), most=0.05) is not Verdict.INCONCLUSIVE for _ in range(200)
    )
    assert 0.7 * 200 <= told <= 0.9 * 200


def test_the_recommended_number_of_graded_items_tells_and_is_not_far_too_high() -> None:
    random, most = np.random.default_rng(7), 0.08

    def run(items: int) -> statistics.Comparison:
        before = random.uniform(0.3, 1, size=items)
        after = np.clip(before - random.normal(0.015, 0.2, size=items), 0, 1)
        return statistics.compare(before.tolist(), after.tolist())

    needed = statistics.items_needed(run(20_000), most=most)
    assert needed is not None

    def share(items: int) -> float:
        told = [
            statistics.judge(run(items), most=most) is not Verdict.INCONCLUSIVE for _ in range(40)
        ]
        return sum(told) / len(told)

    assert share(needed) >= 0.75
    assert share(needed // 4) <= 0.75


def test_the_recommended_number_of_texts_tells() -> None:
    random = np.random.default_rng(8)

    def run(texts: int) -> statistics.Comparison:
        tokens = random.integers(50, 150, size=texts).astype(float)
        return statistics.compare_rates(
            (random.normal(0.01, 0.05, size=texts) * tokens).tolist(), tokens.tolist()
        )

    few = run(40)
    assert statistics.judge(few, most=0.05) is Verdict.INCONCLUSIVE
    needed = statistics.items_needed(few, most=0.05)
    assert needed is not None
    told = sum(statistics.judge(run(needed), most=0.05) is Verdict.PASSED for _ in range(40))
    assert 40 < needed < 400
    assert told >= 0.75 * 40


def test_many_graded_scores_need_neither_much_time_nor_much_memory() -> None:
    random = np.random.default_rng(6)
    before = random.random(100_000)
    after = np.clip(before - random.normal(0.01, 0.1, 100_000), 0, 1)
    began = time.process_time()
    tracemalloc.start()
    found = statistics.compare(before.tolist(), after.tolist())
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (time.process_time() - began < 10, used < 100e6) == (True, True)
    assert found.loss.high - found.loss.low < 0.01
    assert found.p < 0.01


@pytest.mark.parametrize("items", [1, 2, 3, 5])
@pytest.mark.parametrize("score", [0.0, 0.4, 1.0])
def test_very_few_graded_scores_have_finite_intervals_and_pass_nothing(
    items: int, score: float
) -> None:
    found = statistics.compare([0.5] * items, [0.5] * (items - 1) + [score])
    assert all(map(math.isfinite, (found.loss.low, found.loss.high, found.p)))
    assert statistics.judge(found, most=0.1) is not Verdict.PASSED
