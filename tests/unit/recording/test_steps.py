"""Running totals over an engine's steps, from which the times of requests follow."""

import pytest

from slipstream_runtime import contract
from slipstream_runtime.recording.steps import Steps, Totals


def _decode(steps: Steps, *, began: float, ended: float, sequences: int = 4) -> None:
    steps.add(began=began, ended=ended, prompt=0, decoded=sequences, sequences=sequences)


def test_a_step_with_prompts_is_slowed_by_what_it_takes_beyond_a_usual_decode_step() -> None:
    steps = Steps()
    for number in range(10):
        _decode(steps, began=number, ended=number + 0.1)
    before = steps.until(10.0)
    assert before.slowed == 0
    steps.add(began=10.0, ended=10.5, prompt=100, decoded=4, sequences=5)
    found = steps.until(10.5).since(before)
    assert found.slowed == pytest.approx(0.4)
    assert found.prefilling == pytest.approx(0.5)
    assert (found.prompts, found.batch) == (100, pytest.approx(2.5))


def test_before_a_decode_step_was_measured_tokens_decide() -> None:
    steps = Steps()
    steps.add(began=0.0, ended=1.0, prompt=30, decoded=10, sequences=11)
    assert steps.until(1.0).slowed == pytest.approx(0.75)


def test_a_step_without_decoding_is_all_prefill() -> None:
    steps = Steps()
    _decode(steps, began=0.0, ended=0.9, sequences=1)
    before = steps.until(0.9)
    steps.add(began=0.9, ended=1.9, prompt=30, decoded=0, sequences=1)
    assert steps.until(1.9).since(before).slowed == pytest.approx(1.0)


def test_a_faster_step_with_prompts_slows_nobody() -> None:
    steps = Steps()
    _decode(steps, began=0.0, ended=1.0)
    steps.add(began=1.0, ended=1.5, prompt=1, decoded=4, sequences=5)
    assert steps.until(1.5).slowed == 0


def test_a_step_counts_by_the_share_of_it_that_has_run() -> None:
    steps = Steps()
    steps.add(began=1.0, ended=2.0, prompt=100, decoded=0, sequences=1)
    steps.add(began=5.0, ended=6.0, prompt=100, decoded=0, sequences=1)
    assert steps.until(0.0) == Totals()
    assert steps.until(1.25).prompts == pytest.approx(25)
    assert steps.until(3.0).prompts == 100
    assert steps.until(5.5).prompts == pytest.approx(150)
    assert steps.until(9.0).prompts == 200


def test_a_step_without_a_free_slot_is_not_what_a_waiting_request_waits_for() -> None:
    steps = Steps(sequences=2)
    steps.add(began=0.0, ended=1.0, prompt=10, decoded=0, sequences=2)
    assert steps.until(1.0).occupied == 0
    steps.add(began=1.0, ended=2.0, prompt=10, decoded=0, sequences=1)
    assert steps.until(2.0).occupied == pytest.approx(1.0)


def test_the_oldest_steps_give_way_and_the_sums_go_on() -> None:
    steps = Steps(most=4)
    for number in range(10):
        steps.add(began=number, ended=number + 1.0, prompt=1, decoded=0, sequences=1)
    assert steps.until(10.0).prompts == 10
    assert steps.until(8.5).prompts == pytest.approx(8.5)
    assert steps.until(0.0).prompts == 7  # the oldest known time
    sums = steps.sums[contract.PREFILLS]
    assert (sums.count, sums.prompt, sums.seconds) == (10, 10, pytest.approx(10.0))
    assert steps.sums[contract.DECODES].count == 0
