"""Load that comes again after the same time is found and foreseen, and what merely varies is not."""

import math
import random
from array import array
from collections.abc import Callable

import pytest

from slipstream_operator.core.scaling.models import cycles
from slipstream_operator.core.scaling.models.cycles import Cycles

Shape = Callable[[int], float]
"""Load of each minute."""


def spikes(minute: int) -> float:
    return 5.0 if minute % 15 == 0 else 1.0


def waves(minute: int) -> float:
    return 3.0 + 2.0 * math.sin(2 * math.pi * minute / 30)


def on_and_off(minute: int) -> float:
    return 4.0 if minute % 20 < 8 else 0.0


def ramp(minute: int) -> float:
    return 1.0 + minute / 10


def tent(minute: int) -> float:
    return 1.0 + min(minute, 120 - minute) / 10


def flash(minute: int) -> float:
    return 8.0 if 30 < minute < 50 else 1.0


def two_flashes(minute: int) -> float:
    return 8.0 if 30 < minute < 45 or 100 < minute < 115 else 1.0


def _loads(shape: Shape, minutes: int) -> list[float]:
    dice = random.Random(0)
    return [shape(minute) * dice.gauss(1.0, 0.05) for minute in range(minutes)]


def _seen(shape: Shape, minutes: int) -> Cycles:
    found = Cycles()
    for minute, load in enumerate(_loads(shape, minutes)):
        for second in (0.0, 15.0, 30.0, 45.0):
            found = cycles.record(found, load, now=1e6 + 60.0 * minute + second)
    return found


@pytest.mark.parametrize(("shape", "period"), [(spikes, 15), (waves, 30), (on_and_off, 20)])
def test_a_period_is_found_once_it_has_passed_two_and_a_half_times(
    shape: Shape, period: int
) -> None:
    assert cycles.find(_loads(shape, 2 * period + 1)) == 0
    for minutes in (3 * period, 4 * period, 100, 200):
        assert cycles.find(_loads(shape, minutes)) == period


@pytest.mark.parametrize("shape", [ramp, tent, flash, two_flashes])
def test_a_shape_that_comes_once_or_twice_is_no_cycle(shape: Shape) -> None:
    assert not any(cycles.find(_loads(shape, minutes)) for minutes in range(20, 160, 5))


def test_a_steady_load_is_no_cycle() -> None:
    assert not any(cycles.find(_loads(lambda _: 4.0, minutes)) for minutes in range(20, 240, 5))


def test_load_that_wanders_is_hardly_ever_taken_for_a_cycle() -> None:
    found = 0
    for seed in range(50):
        dice, load, loads = random.Random(seed), 20.0, []
        for _ in range(240):
            load = max(2.0, 0.95 * load + 1.0 + dice.gauss(0.0, 2.0))
            loads.append(load)
        found += sum(cycles.find(loads[:minutes]) > 0 for minutes in range(20, 241, 20))
    assert found <= 0.02 * 50 * 12


def test_the_next_spike_is_foreseen_until_it_has_passed() -> None:
    before = _seen(spikes, 86)
    assert before.period == 15
    assert cycles.ahead(before, seconds=60.0) == pytest.approx(1.0, rel=0.2)
    assert cycles.ahead(before, seconds=300.0) == pytest.approx(5.0, rel=0.2)
    assert cycles.ahead(_seen(spikes, 92), seconds=300.0) == pytest.approx(1.0, rel=0.2)


def test_a_new_level_scales_the_forecast_and_a_very_different_one_ends_it() -> None:
    def higher(factor: float) -> Shape:
        return lambda minute: waves(minute) * (1.0 if minute < 120 else factor)

    usual, more = (cycles.ahead(_seen(higher(by), 135), seconds=60.0) for by in (1.0, 1.5))
    assert usual is not None
    assert more == pytest.approx(1.5 * usual, rel=0.1)
    assert cycles.ahead(_seen(higher(3.0), 135), seconds=60.0) is None


@pytest.mark.parametrize(("minutes", "kept"), [(30, 30), (100_000, 240)])
def test_a_gap_is_filled_with_the_last_minute(minutes: int, kept: int) -> None:
    seen = cycles.record(cycles.record(Cycles(), 2.0, now=1e6), 2.0, now=1e6 + 60.0)
    later = cycles.record(seen, 3.0, now=1e6 + 60.0 * minutes)
    assert array("f", later.minutes).tolist() == [2.0] * kept


def test_thousands_of_services_can_be_remembered() -> None:
    assert len(_seen(waves, 600).minutes) <= 1000
