"""The fit of the engine model: known coefficients come back, stalls count little, too little data is refused."""

import random
from dataclasses import replace

import pytest

from slipstream_runtime.simulator import calibration, model

LIMITS = model.Parameters(max_sequences=16, max_batched_tokens=256, kv_tokens=16_384)
ENGINE = replace(LIMITS, alpha=2.5e-3, beta=80e-6, gamma=200e-9, delta=16e-6)
OVERHEAD = 4e-3


def requests(
    *, seed: int, rate: float, number: int, prompt: int, output: int
) -> list[model.Request]:
    dice = random.Random(seed)
    at, found = 0.0, []
    for key in range(number):
        at += dice.expovariate(rate)
        lengths = [round(median * dice.lognormvariate(0, 0.8)) for median in (prompt, output)]
        found.append(model.Request(key, at, *(max(2, min(length, 2000)) for length in lengths)))
    return found


def observed(asked: list[model.Request], *, noise: float) -> list[calibration.Observation]:
    """What clients of the known engine would measure, with relative errors of this deviation."""
    dice = random.Random(0)
    engine = calibration.Fit(ENGINE, overhead=OVERHEAD, residual=0.0)
    return [
        replace(
            each,
            ttft=each.ttft * dice.gauss(1, noise),
            tpot=None if each.tpot is None else each.tpot * dice.gauss(1, noise),
        )
        for each in engine.predict(asked)
    ]


def chat(*, seed: int = 1) -> list[model.Request]:
    return requests(seed=seed, rate=24.0, number=150, prompt=120, output=40)


def documents() -> list[model.Request]:
    return requests(seed=9, rate=12.0, number=80, prompt=400, output=80)


@pytest.mark.parametrize(("noise", "tolerance"), [(0.0, 0.02), (0.05, 0.25)])
def test_the_coefficients_of_a_known_engine_come_back(noise: float, tolerance: float) -> None:
    runs = [observed(chat(seed=seed), noise=noise) for seed in (1, 2)]
    found = calibration.fit(runs, limits=LIMITS)
    for name in ("alpha", "beta", "gamma", "delta"):
        wanted = getattr(ENGINE, name)
        assert getattr(found.parameters, name) == pytest.approx(wanted, rel=tolerance), name
    assert found.overhead == pytest.approx(OVERHEAD, rel=tolerance)
    assert noise / 2 <= found.residual <= 2 * noise + 0.01


def test_the_limits_of_the_engine_are_kept() -> None:
    found = calibration.fit([observed(chat(), noise=0.0)], limits=LIMITS).parameters
    assert replace(found, alpha=1.0, beta=0.0, gamma=0.0, delta=0.0) == replace(
        LIMITS, alpha=1.0, beta=0.0, gamma=0.0, delta=0.0
    )


def test_another_load_is_predicted_from_a_noisy_one() -> None:
    found = calibration.fit([observed(chat(), noise=0.1)], limits=LIMITS)
    truth = observed(documents(), noise=0.0)
    predicted = found.predict([each.request for each in truth])
    for one, other in zip(predicted, truth, strict=True):
        assert one.request == other.request
    for name in ("ttft", "tpot"):
        mean = sum(getattr(each, name) for each in predicted)
        assert mean == pytest.approx(sum(getattr(each, name) for each in truth), rel=0.1), name


def test_a_stall_of_the_machine_hardly_changes_the_fit() -> None:
    seen = observed(chat(), noise=0.02)
    stalled = [
        replace(each, ttft=10 * each.ttft, tpot=each.tpot and 5 * each.tpot)
        if 60 <= number < 70
        else each
        for number, each in enumerate(seen)
    ]
    calm = calibration.fit([seen], limits=LIMITS)
    found = calibration.fit([stalled], limits=LIMITS)
    assert found.parameters.alpha == pytest.approx(calm.parameters.alpha, rel=0.05)
    assert found.parameters.delta == pytest.approx(calm.parameters.delta, rel=0.1)


def test_an_effect_that_is_not_there_gets_no_negative_coefficient() -> None:
    flat = [replace(each, ttft=0.02, tpot=0.01) for each in observed(chat(), noise=0.0)]
    found = calibration.fit([flat], limits=LIMITS).parameters
    assert min(found.beta, found.gamma, found.delta) >= 0
    assert found.alpha == pytest.approx(0.01, rel=0.2)


def test_too_few_requests_are_refused_with_the_number_that_is_needed() -> None:
    with pytest.raises(ValueError, match=r"^19 requests .* at least 20 are needed"):
        calibration.fit([observed(chat()[:19], noise=0.0)], limits=LIMITS)
