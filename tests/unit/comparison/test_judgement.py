"""A canary is worse, not worse, or not known yet; what is missing is never good."""

import math
import random

import pytest

from slipstream_operator.core.comparison import judgement
from slipstream_operator.core.comparison.judgement import Measure, Scale, Verdict
from slipstream_operator.core.comparison.totals import Totals

TPOT = Measure("tpot", Scale.LOGARITHM, 0.05)
LENGTH = Measure("output", Scale.LOGARITHM, 0.25, both_ways=True)
ERRORS = Measure("errors", Scale.SHARE, 0.02)


def _logs(typical: float, count: int, *, seed: int = 0, spread: float = 0.1) -> Totals:
    chance = random.Random(seed)
    values = [math.log(typical) + chance.gauss(0.0, spread) for _ in range(count)]
    return Totals(count, sum(values), sum(value * value for value in values))


def _judged(measure: Measure, stable: Totals, canary: Totals) -> judgement.Judgement:
    return judgement.judge([measure], {measure.name: stable}, {measure.name: canary}, error=0.01)


@pytest.mark.parametrize(
    ("canary", "verdict"),
    [
        (_logs(0.012, 100, seed=1), Verdict.WORSE),
        (_logs(0.010, 3_000, seed=1), Verdict.NOT_WORSE),
        (_logs(0.008, 500, seed=1), Verdict.NOT_WORSE),
        (_logs(0.0104, 100, seed=1), Verdict.UNDECIDED),
        (_logs(0.020, 1, seed=1), Verdict.UNDECIDED),
        (Totals(), Verdict.UNDECIDED),
    ],
    ids=["a fifth slower", "equal", "faster", "too close", "too few", "nothing measured"],
)
def test_the_time_per_token_decides(canary: Totals, verdict: Verdict) -> None:
    assert _judged(TPOT, _logs(0.010, 3_000), canary).verdict is verdict


def test_a_difference_of_a_few_values_without_bounds_is_no_error() -> None:
    wild = Totals(20, 0.0, 20 * 1e6)
    assert _judged(TPOT, wild, wild).verdict is Verdict.UNDECIDED


def test_a_measure_without_need_of_proof_only_stops() -> None:
    guard = Measure("e2e", Scale.LOGARITHM, 0.05, proof=False)
    equal, slow = _logs(0.010, 3_000), _logs(0.012, 3_000, seed=1)
    found = judgement.judge(
        [TPOT, guard], {"tpot": equal, "e2e": equal}, {"tpot": equal}, error=0.01
    )
    assert found.verdict is Verdict.NOT_WORSE
    found = judgement.judge(
        [TPOT, guard],
        {"tpot": equal, "e2e": equal},
        {"tpot": equal, "e2e": slow},
        error=0.01,
    )
    assert found.verdict is Verdict.WORSE


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_an_output_length_that_changes_either_way_is_worse(factor: float) -> None:
    found = _judged(LENGTH, _logs(100, 500), _logs(100 * factor, 500, seed=2))
    assert found.verdict is Verdict.WORSE


def test_errors_of_the_canary_are_found_and_a_few_requests_without_one_prove_nothing() -> None:
    stable = Totals(1_000, 1, 1)
    assert _judged(ERRORS, stable, Totals(100, 15, 15)).verdict is Verdict.WORSE
    assert _judged(ERRORS, stable, Totals(50, 0, 0)).verdict is Verdict.UNDECIDED
    assert _judged(ERRORS, stable, Totals(1_000, 1, 1)).verdict is Verdict.NOT_WORSE


def test_one_worse_measure_is_worse_and_one_unknown_measure_is_unknown() -> None:
    equal, slow = _logs(0.010, 3_000), _logs(0.012, 3_000, seed=1)
    clean = Totals(3_000, 0, 0)
    stable = {"tpot": equal, "errors": clean}
    worse = judgement.judge([ERRORS, TPOT], stable, {"tpot": slow, "errors": clean}, error=0.01)
    assert worse.verdict is Verdict.WORSE
    assert [finding.measure for finding in worse.reasons] == [TPOT]
    [finding] = worse.reasons
    assert finding.interval is not None
    assert finding.interval.estimate == pytest.approx(0.2, abs=0.02)
    unknown = judgement.judge([ERRORS, TPOT], stable, {"tpot": equal}, error=0.01)
    assert unknown.verdict is Verdict.UNDECIDED
    assert [finding.measure for finding in unknown.reasons] == [ERRORS]
