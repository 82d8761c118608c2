"""The gain of speculation is computed from comparable steps, and is absent without evidence."""

from pathlib import Path

import numpy as np
import pytest

from slipstream_runtime import contract
from slipstream_runtime.engine import gain
from slipstream_runtime.engine.gain import Gain, GainMetrics, Tally

ENOUGH = int(gain.EVIDENCE)
TARGET, PASS = 0.010, 0.002
"""Seconds of the target's pass, whatever it verifies, and of one of the draft's."""


@pytest.fixture
def tally(tmp_path: Path) -> Tally:
    return Tally.create(tmp_path / "tally")


def decode(
    tally: Tally, *, speculating: bool, batch: int = 1, each: float = 1.0, seconds: float
) -> None:
    """Enough steps that emit `each` tokens on average for every request."""
    for step in range(ENOUGH):
        emitted = int((step + 1) * each) - int(step * each)
        tally.add(speculating=speculating, batch=batch, tokens=batch * emitted, seconds=seconds)


def estimate(tally: Tally, *, passes: int | None = 4) -> Gain | None:
    return gain.estimate(tally.recent, passes=passes)


def test_guesses_that_cost_nothing_gain_what_they_add(tally: Tally) -> None:
    decode(tally, speculating=True, each=2.5, seconds=TARGET)
    decode(tally, speculating=False, seconds=TARGET)
    assert estimate(tally, passes=None) == Gain(pytest.approx(2.5), pytest.approx(2.5))


def test_the_bounds_hold_the_gain_over_an_engine_without_a_draft(tally: Tally) -> None:
    verifying = 0.0015  # what it costs the target to check guesses
    decode(tally, speculating=True, each=2.5, seconds=TARGET + verifying + 4 * PASS)
    decode(tally, speculating=False, seconds=TARGET + PASS)
    true = 2.5 * TARGET / (TARGET + verifying + 4 * PASS)
    found = estimate(tally)
    assert found is not None
    assert found.lower is not None
    assert found.lower < true < found.upper


def test_the_lower_bound_is_the_gain_where_guesses_are_checked_for_nothing(tally: Tally) -> None:
    decode(tally, speculating=True, each=2.5, seconds=TARGET + 4 * PASS)
    decode(tally, speculating=False, seconds=TARGET + PASS)
    found = estimate(tally)
    assert found is not None
    assert found.lower == pytest.approx(2.5 * TARGET / (TARGET + 4 * PASS))


def test_a_draft_with_one_pass_a_step_has_no_lower_bound(tally: Tally) -> None:
    decode(tally, speculating=True, each=1.5, seconds=TARGET + PASS)
    decode(tally, speculating=False, seconds=TARGET + PASS)
    assert estimate(tally, passes=1) == Gain(None, pytest.approx(1.5))


def test_noise_gains_less_than_one(tally: Tally) -> None:
    decode(tally, speculating=True, each=1.0, seconds=TARGET + 4 * PASS)
    decode(tally, speculating=False, seconds=TARGET + PASS)
    found = estimate(tally)
    assert found is not None
    assert found.upper < 1


def test_big_batches_in_one_mode_are_not_compared_with_small_ones_in_the_other(
    tally: Tally,
) -> None:
    decode(tally, speculating=True, batch=1, each=2.0, seconds=TARGET)
    decode(tally, speculating=False, batch=1, seconds=TARGET)
    decode(tally, speculating=False, batch=32, seconds=TARGET)
    found = estimate(tally, passes=None)
    assert found is not None
    assert found.upper == pytest.approx(2.0)


def test_each_batch_size_weighs_what_the_tokens_would_have_taken(tally: Tally) -> None:
    decode(tally, speculating=True, batch=1, each=2.0, seconds=0.010)
    decode(tally, speculating=False, batch=1, seconds=0.010)
    decode(tally, speculating=True, batch=8, each=2.0, seconds=0.030)
    decode(tally, speculating=False, batch=8, seconds=0.010)
    found = estimate(tally, passes=None)
    assert found is not None
    assert found.upper == pytest.approx((2 * 0.010 + 2 * 0.010) / (0.010 + 0.030))


def test_without_windows_there_is_no_gain(tally: Tally) -> None:
    decode(tally, speculating=True, each=2.0, seconds=TARGET)
    assert estimate(tally) is None


def test_a_few_steps_are_no_evidence(tally: Tally) -> None:
    decode(tally, speculating=True, each=2.0, seconds=TARGET)
    for _ in range(ENOUGH - 1):
        tally.add(speculating=False, batch=1, tokens=1, seconds=TARGET)
    assert estimate(tally) is None
    tally.add(speculating=False, batch=1, tokens=1, seconds=TARGET)
    assert estimate(tally) is not None


def test_batch_sizes_that_are_rare_speak_for_no_others(tally: Tally) -> None:
    decode(tally, speculating=True, batch=1, each=2.0, seconds=TARGET)
    decode(tally, speculating=False, batch=1, seconds=TARGET)
    decode(tally, speculating=True, batch=32, each=2.0, seconds=2 * TARGET)
    assert estimate(tally) is None


def test_old_samples_give_way_to_what_is_true_now(tally: Tally) -> None:
    decode(tally, speculating=True, each=3.0, seconds=TARGET)
    decode(tally, speculating=False, seconds=TARGET)
    for _ in range(10 * gain.REMEMBERED):
        tally.age()
    assert estimate(tally) is None
    decode(tally, speculating=True, each=1.0, seconds=TARGET)
    decode(tally, speculating=False, seconds=TARGET)
    found = estimate(tally, passes=None)
    assert found is not None
    assert found.upper == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("at", [0, 1, ENOUGH // 2, ENOUGH - 1], ids=str)
def test_a_step_that_stalls_is_left_out(tally: Tally, at: int) -> None:
    decode(tally, speculating=True, each=2.0, seconds=TARGET)
    for step in range(ENOUGH + 1):
        stalls = step == at
        tally.add(speculating=False, batch=1, tokens=1, seconds=2.0 if stalls else TARGET)
    found = estimate(tally, passes=None)
    assert found is not None
    assert found.upper == pytest.approx(2.0)


def test_steps_that_stay_slow_are_no_stalls(tally: Tally) -> None:
    decode(tally, speculating=True, each=2.0, seconds=10 * TARGET)
    decode(tally, speculating=False, seconds=TARGET)
    for _ in range(100):
        decode(tally, speculating=False, seconds=10 * TARGET)
    found = estimate(tally, passes=None)
    assert found is not None
    assert found.upper == pytest.approx(2.0, rel=0.02)


def test_what_one_process_counts_another_reads(tmp_path: Path) -> None:
    read = Tally.create(tmp_path / "tally")
    Tally.open(tmp_path / "tally").add(speculating=False, batch=5, tokens=5, seconds=0.5)
    assert np.argwhere(read.ever).tolist() == [[1, 3, 0], [1, 3, 1], [1, 3, 2]]


def test_the_metrics_have_counters_by_batch_size_and_no_gain_without_evidence(tally: Tally) -> None:
    tally.add(speculating=True, batch=5, tokens=9, seconds=0.5)
    tally.age()
    samples = [
        (sample.name, sample.labels, sample.value)
        for family in GainMetrics(tally, passes=4).collect()
        for sample in family.samples
    ]
    labels = {"speculation": "on", "batch": "8"}
    assert samples == [
        (contract.SAMPLED_STEPS, labels, 1.0),
        (contract.SAMPLED_TOKENS, labels, 9.0),
        (contract.SAMPLED_SECONDS, labels, 0.5),
    ]


def test_the_metrics_have_both_bounds_of_the_gain(tally: Tally) -> None:
    decode(tally, speculating=True, each=2.5, seconds=TARGET + 4 * PASS)
    decode(tally, speculating=False, seconds=TARGET + PASS)
    found = estimate(tally)
    family = next(iter(GainMetrics(tally, passes=4).collect()))
    assert found is not None
    assert {sample.labels["bound"]: sample.value for sample in family.samples} == {
        "lower": found.lower,
        "upper": found.upper,
    }
