"""State that decisions keep: their time and reason, the learned step time, and corrections."""

import dataclasses

import pytest

from slipstream_operator.core.scaling import policy
from slipstream_operator.core.scaling.inputs import Inputs
from slipstream_operator.core.scaling.metrics.values import Unknown
from slipstream_operator.core.scaling.models.feedback import Feedback
from tests.support import given
from tests.support.decisions import QUIET, SLOW, WINDOW, known, traffic


def test_a_decision_is_remembered_with_its_time_and_reason() -> None:
    decision, state = policy.decide(given.inputs(readings=SLOW), given.state(1))
    assert (state.desired, state.since, state.reason) == (2, 1000.0, decision.reason)


def test_a_count_that_stays_keeps_its_time_and_reason() -> None:
    before = given.state(1, since=5.0, reason="why")
    _, state = policy.decide(given.inputs(), before)
    assert (state.since, state.reason) == (5.0, "why")


def test_a_short_gap_in_the_data_is_bridged_and_a_long_one_starts_a_new_window() -> None:
    state = given.state(4, needs=WINDOW, watched_since=0.0)
    gap: Inputs = given.inputs(**{**QUIET, "load": Unknown("no data")})
    _, state = policy.decide(gap, state)
    assert state.needs == WINDOW
    _, state = policy.decide(dataclasses.replace(gap, now=gap.now + 61.0), state)
    assert (state.needs, state.watched_since) == ((), None)


def test_another_revision_gets_a_new_model() -> None:
    before = known(1, revision="old")
    _, state = policy.decide(given.inputs(revision="new", load=given.load(0.0)), before)
    assert state.model.coefficients is None


def test_step_times_are_learned_from_the_metrics_of_engines() -> None:
    _, state = policy.decide(given.inputs(load=traffic(10.0)), given.state(1))
    assert state.model.coefficients is not None
    assert state.model.coefficients.alpha == pytest.approx(0.007, rel=0.5)


def test_a_correction_that_was_too_high_is_unlearned_by_engines_that_are_hardly_busy() -> None:
    state = known(10, feedback=Feedback({"ttft": 3.0}), watched_since=0.0)
    load, readings = traffic(30.0, pods=10), (given.reading(current=0.06, requests=500.0),)
    for tick in range(120):
        inputs = given.inputs(now=1000.0 + 30 * tick, ready=10, load=load, readings=readings)
        state = policy.decide(inputs, dataclasses.replace(state, desired=10))[1]
    assert state.feedback.corrections["ttft"] < 1.5


@pytest.mark.parametrize(("current", "learned"), [(0.06, True), (0.9, False)], ids=["low", "high"])
def test_while_engines_start_low_latencies_correct_the_model_and_high_ones_do_not(
    current: float, learned: bool
) -> None:
    state = known(4, watched_since=0.0)
    load = traffic(20.0, pods=2)
    readings = (given.reading(current=current, requests=500.0),)
    inputs = given.inputs(now=1000.0, ready=2, starting=2, load=load, readings=readings)
    _, after = policy.decide(inputs, state)
    assert (after.feedback.corrections.get("ttft", 1.0) < 1.0) == learned
