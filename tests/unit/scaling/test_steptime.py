"""The step-time model: what it learns, and what it does not believe."""

import pytest

from slipstream_operator.core.scaling.models import steptime
from slipstream_operator.core.scaling.models.steptime import (
    Coefficients,
    Observation,
    StepTimeModel,
)

TRUE = Coefficients(0.012, 30e-6, 90e-9, 50e-6)


def _seen(batch: float, *, factor: float = 1.0, truth: Coefficients = TRUE) -> Observation:
    context, prompt = batch * 1200.0, batch * 6.0
    seconds = truth.alpha + truth.beta * batch + truth.gamma * context + truth.delta * prompt
    return Observation(batch, context, prompt, seconds * factor)


def _step(model: StepTimeModel, batch: float) -> float:
    fit = model.coefficients
    assert fit is not None
    seen = _seen(batch)
    return fit.alpha + fit.beta * batch + fit.gamma * seen.context + fit.delta * seen.prompt


def _learned(*batches: float, times: int = 10) -> StepTimeModel:
    model = StepTimeModel()
    for _ in range(times):
        for batch in batches:
            model = steptime.learn(model, [_seen(batch)])
    return model


def test_nothing_is_known_before_anything_was_seen() -> None:
    assert StepTimeModel().coefficients is None
    assert StepTimeModel().cautious is None


def test_the_first_observation_sets_the_scale() -> None:
    assert _step(_learned(10.0, times=1), 10.0) == pytest.approx(_seen(10.0).seconds, rel=0.02)


def test_the_step_is_learned_over_the_range_of_loads() -> None:
    model = _learned(1.0, 4.0, 16.0, 60.0)
    for batch in (2.0, 30.0, 90.0):
        assert _step(model, batch) == pytest.approx(_seen(batch).seconds, rel=0.03)


def test_observations_lower_the_uncertainty() -> None:
    assert _learned(1.0, 4.0, 16.0, 60.0).uncertainty < _learned(1.0, times=1).uncertainty


def test_an_idle_night_does_not_wash_out_the_day() -> None:
    day = _learned(1.0, 40.0, 80.0)
    night = day
    for _ in range(2000):
        night = steptime.learn(night, [_seen(1.0)])
    assert _step(night, 80.0) == pytest.approx(_step(day, 80.0), rel=0.02)


def test_one_outlier_teaches_nothing() -> None:
    model = _learned(1.0, 20.0, 60.0)
    found = steptime.learn(model, [_seen(40.0, factor=4.0)])
    assert found.coefficients == model.coefficients


def test_an_outlier_that_stays_is_the_new_truth() -> None:
    model = _learned(1.0, 20.0, 60.0)
    for _ in range(20):
        model = steptime.learn(model, [_seen(40.0, factor=4.0)])
    assert _step(model, 40.0) == pytest.approx(4 * _seen(40.0).seconds, rel=0.1)


def test_coefficients_are_never_negative() -> None:
    falling = [Observation(b, b * 1000.0, b * 5.0, 0.02 - b * 0.0002) for b in (1, 10, 30, 60)]
    model = steptime.learn(StepTimeModel(), falling)
    fit = model.coefficients
    assert fit is not None
    assert min(fit.alpha, fit.beta, fit.gamma, fit.delta) >= 0


def test_what_is_fitted_depends_on_the_rows_alone() -> None:
    model = _learned(1.0, 20.0, 60.0)
    again = steptime.fit(model.rows)
    assert (again.coefficients, again.uncertainty) == (model.coefficients, model.uncertainty)


def test_caution_means_slower_steps() -> None:
    model = _learned(1.0, 20.0)
    assert model.coefficients is not None
    assert model.cautious is not None
    assert model.cautious.alpha > model.coefficients.alpha
