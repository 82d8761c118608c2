"""The gain of speculation is computed from comparable steps, and is absent without evidence."""

import math
from pathlib import Path

import numpy as np
import pytest

from slipstream_runtime import contract
from slipstream_runtime.engine import gain
from slipstream_runtime.engine.gain import Tally
from slipstream_runtime.engine.metrics import GainMetrics

ENOUGH = int(gain.EVIDENCE)
TARGET, PASS, FIRST = 0.010, 0.002, 0.003
"""Seconds of the target's pass, of one of the draft's, and of its first in a step, which also prepares the others."""
UNMEASURED = math.nan


@pytest.fixture
def tally(tmp_path: Path) -> Tally:
    return Tally.create(tmp_path / "tally")


def decode(
    tally: Tally,
    *,
    speculating: bool,
    batch: int = 1,
    each: float = 1.0,
    seconds: float,
    drafting: float = UNMEASURED,
) -> None:
    """Enough steps that emit `each` tokens on average for every request."""
    for step in range(ENOUGH):
        emitted = int((step + 1) * each) - int(step * each)
        tally.add(
            speculating=speculating,
            batch=batch,
            tokens=batch * emitted,
            seconds=seconds,
            drafting=drafting,
        )


def step(tally: Tally, *, speculating: bool = False, seconds: float = TARGET) -> None:
    tally.add(speculating=speculating, batch=1, tokens=1, seconds=seconds, drafting=UNMEASURED)


def estimate(tally: Tally) -> float | None:
    return gain.estimate(tally.recent)


def test_draft_tokens_that_cost_nothing_gain_what_they_add(tally: Tally) -> None:
    decode(tally, speculating=True, each=2.5, seconds=TARGET)
    decode(tally, speculating=False, seconds=TARGET)
    assert estimate(tally) == pytest.approx(2.5)


def test_the_pass_of_a_draft_in_the_windows_is_taken_off_where_it_is_measured(tally: Tally) -> None:
    verifying = 0.0015  # what it costs the target to verify draft tokens
    drafting = FIRST + 3 * PASS
    seconds = TARGET + verifying + drafting
    decode(tally, speculating=True, each=2.5, seconds=seconds, drafting=drafting)
    decode(tally, speculating=False, seconds=TARGET + FIRST, drafting=FIRST)
    assert estimate(tally) == pytest.approx(2.5 * TARGET / seconds)


def test_where_the_pass_is_not_measured_the_windows_are_taken_as_they_are(tally: Tally) -> None:
    decode(tally, speculating=True, each=1.5, seconds=TARGET + FIRST)
    decode(tally, speculating=False, seconds=TARGET + FIRST)
    assert estimate(tally) == pytest.approx(1.5)


def test_the_drafting_function_is_measured_and_called_as_before(tally: Tally) -> None:
    assert math.isnan(tally.drafting)
    moments = iter([1.0, 1.25, 7.0, 7.5])
    draft = tally.timed(lambda number, *, power: number**power, clock=moments.__next__)
    assert tally.drafting == 0
    assert (draft(2, power=3), draft(3, power=2)) == (8, 9)
    assert tally.drafting == pytest.approx(0.75)


def test_noise_gains_less_than_one(tally: Tally) -> None:
    decode(tally, speculating=True, each=1.0, seconds=TARGET + FIRST + 3 * PASS)
    decode(tally, speculating=False, seconds=TARGET + FIRST)
    assert (estimate(tally) or math.inf) < 1


def test_big_batches_in_one_mode_are_not_compared_with_small_ones_in_the_other(
    tally: Tally,
) -> None:
    decode(tally, speculating=True, batch=1, each=2.0, seconds=TARGET)
    decode(tally, speculating=False, batch=1, seconds=TARGET)
    decode(tally, speculating=False, batch=32, seconds=TARGET)
    assert estimate(tally) == pytest.approx(2.0)


def test_each_batch_size_weighs_what_the_tokens_would_have_taken(tally: Tally) -> None:
    decode(tally, speculating=True, batch=1, each=2.0, seconds=0.010)
    decode(tally, speculating=False, batch=1, seconds=0.010)
    decode(tally, speculating=True, batch=8, each=2.0, seconds=0.030)
    decode(tally, speculating=False, batch=8, seconds=0.010)
    assert estimate(tally) == pytest.approx((2 * 0.010 + 2 * 0.010) / (0.010 + 0.030))


def test_without_windows_there_is_no_gain(tally: Tally) -> None:
    decode(tally, speculating=True, each=2.0, seconds=TARGET)
    assert estimate(tally) is None


def test_a_few_steps_are_no_evidence(tally: Tally) -> None:
    decode(tally, speculating=True, each=2.0, seconds=TARGET)
    for _ in range(ENOUGH - 1):
        step(tally)
    assert estimate(tally) is None
    step(tally)
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
    assert estimate(tally) == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("at", [0, 1, ENOUGH // 2, ENOUGH - 1], ids=str)
def test_a_step_that_stalls_is_left_out(tally: Tally, at: int) -> None:
    decode(tally, speculating=True, each=2.0, seconds=TARGET)
    for number in range(ENOUGH + 1):
        step(tally, seconds=2.0 if number == at else TARGET)
    assert estimate(tally) == pytest.approx(2.0)


def test_steps_that_stay_slow_are_no_stalls(tally: Tally) -> None:
    decode(tally, speculating=True, each=2.0, seconds=10 * TARGET)
    decode(tally, speculating=False, seconds=TARGET)
    for _ in range(100):
        decode(tally, speculating=False, seconds=10 * TARGET)
    assert estimate(tally) == pytest.approx(2.0, rel=0.02)


def test_what_one_process_counts_another_reads(tmp_path: Path) -> None:
    read = Tally.create(tmp_path / "tally")
    Tally.open(tmp_path / "tally").add(
        speculating=False, batch=5, tokens=5, seconds=0.5, drafting=0.1
    )
    assert read.ever[1, 3].tolist() == [1, 5, 0.5, 0.1]
    assert np.count_nonzero(read.ever) == 4


@pytest.mark.parametrize("drafting", [0.1, UNMEASURED], ids=["measured", "unmeasured"])
def test_the_metrics_have_counters_by_batch_size_and_no_gain_without_evidence(
    tally: Tally, drafting: float
) -> None:
    tally.add(speculating=True, batch=5, tokens=9, seconds=0.5, drafting=drafting)
    tally.age()
    samples = [
        (sample.name, sample.labels, sample.value)
        for family in GainMetrics(tally).collect()
        for sample in family.samples
    ]
    labels = {"speculation": "on", "batch": "8"}
    measured = [(contract.SAMPLED_DRAFTING, labels, 0.1)] if drafting == 0.1 else []
    assert samples == [
        (contract.SAMPLED_STEPS, labels, 1.0),
        (contract.SAMPLED_TOKENS, labels, 9.0),
        (contract.SAMPLED_SECONDS, labels, 0.5),
        *measured,
    ]


def test_the_metrics_have_the_gain(tally: Tally) -> None:
    decode(tally, speculating=True, each=2.5, seconds=TARGET)
    decode(tally, speculating=False, seconds=TARGET)
    (sample,) = next(iter(GainMetrics(tally).collect())).samples
    assert (sample.name, sample.value) == (contract.SPECULATION_GAIN, pytest.approx(2.5))
