"""Cold starts, forecasts, feedback, spikes and needs, each by itself."""

import math
import random

import pytest

from slipstream_operator.core import histograms
from slipstream_operator.core.histograms import EMPTY, from_buckets
from slipstream_operator.core.scaling import stabilization, supply
from slipstream_operator.core.scaling.models import (
    coldstart,
    concurrency,
    feedback,
    forecast,
    spikes,
)
from slipstream_operator.core.scaling.models.coldstart import ColdStart
from slipstream_operator.core.scaling.models.feedback import Feedback
from slipstream_operator.core.scaling.models.forecast import Outlook
from slipstream_operator.core.scaling.models.spikes import Spikes
from slipstream_operator.core.scaling.supply import PodStatus


def test_a_cold_start_takes_three_minutes_until_one_was_seen() -> None:
    assert ColdStart().p90 == 180.0
    one = coldstart.learn(ColdStart(), [60.0])
    assert 60.0 < coldstart.learn(one, [60.0]).p90 < one.p90 < 100.0


def test_a_start_takes_at_least_as_long_as_one_that_has_not_ended() -> None:
    assert ColdStart().expected(waited=60.0) == 180.0
    assert ColdStart().expected(waited=400.0) == 800.0
    seen = coldstart.learn(ColdStart(), [60.0] * 8)
    assert seen.expected(waited=10.0) == seen.p90
    assert seen.expected(waited=400.0) == 400.0


def test_nine_of_ten_cold_starts_are_faster() -> None:
    found = coldstart.learn(ColdStart(), [60.0, 80.0, 120.0, 160.0, 200.0] * 8)
    assert 160.0 < found.p90 < 250.0


def test_old_cold_starts_fade() -> None:
    slow = coldstart.learn(ColdStart(), [600.0] * 20)
    assert coldstart.learn(slow, [30.0] * 80).p90 < 60.0


def _forecast(
    loads: list[float], *, horizon: float = 180.0, start: float = 1e6
) -> tuple[float, Outlook]:
    outlook, now = Outlook(), start
    for load in loads:
        outlook = forecast.update(outlook, load, now=now, horizon=horizon)
        now += forecast.STEP
    return forecast.ahead(outlook, loads[-1], now=now - forecast.STEP, horizon=horizon), outlook


def test_a_steady_load_stays() -> None:
    assert _forecast([10.0] * 100)[0] == pytest.approx(10.0, rel=0.02)


def test_a_ramp_is_followed_ahead() -> None:
    ramp = [1.0 + 0.05 * step for step in range(200)]
    ahead = ramp[-1] + 0.05 * 180.0 / forecast.STEP
    assert _forecast(ramp)[0] == pytest.approx(ahead, rel=0.05)


def test_a_forecast_never_lowers_the_present_load() -> None:
    assert _forecast([20.0 - 0.1 * step for step in range(150)])[0] >= 5.1


def test_a_jump_is_no_trend() -> None:
    seen = [2.0] * 100 + [4.0, 6.0, 8.0] + [8.0] * 20
    assert _forecast(seen)[0] <= 8.0 * 1.25


def test_a_trend_is_carried_on_for_as_long_as_it_has_lasted() -> None:
    flat, slope = [10.0] * 100, 0.2
    ramp = [10.0 + slope * step for step in range(20)]
    minutes = 60.0 / forecast.STEP
    ahead, _ = _forecast(flat + ramp, horizon=3600.0)
    assert ramp[-1] < ahead < ramp[-1] + slope * 15 * minutes


def test_a_rise_after_a_fall_is_seen_within_three_minutes() -> None:
    fall = [10.0 - 0.1 * step for step in range(60)]
    rise = [4.0 + 0.1 * step for step in range(12)]
    ahead, _ = _forecast(fall + rise)
    assert ahead > rise[-1] + 0.1 * 8


def test_noise_is_no_trend() -> None:
    dice = random.Random(0)
    noisy = [10.0 + dice.gauss(0.0, 0.3) for _ in range(400)]
    assert max(_forecast(noisy[:end])[0] for end in range(40, 400, 9)) < 12.5


def test_the_same_time_of_the_day_before_is_remembered() -> None:
    day = int(86400 / forecast.STEP)

    def load(step: int) -> float:
        return 10.0 if step % day > day // 2 else 2.0

    outlook = _forecast([load(step) for step in range(2 * day)], start=0.0)[1]
    seen = [value for value in outlook.season if value >= 0]
    assert len(outlook.season) == forecast.BUCKETS
    assert min(seen) == pytest.approx(2.0, rel=0.1)
    assert max(seen) == pytest.approx(10.0, rel=0.1)


COARSE = from_buckets([(0.01, 0.0), (0.025, 800.0), (0.05, 1000.0), (math.inf, 1000.0)])
"""80 % below 25 ms and all below 50 ms, as of latencies that scatter around 20 ms."""


def test_between_two_bounds_latency_is_taken_as_lognormal() -> None:
    found = histograms.lognormal_attainment(COARSE, 0.04)
    assert found is not None
    assert 0.98 < found < 1.0  # a straight line would say 0.92


def test_on_a_bound_attainment_is_exact() -> None:
    assert histograms.lognormal_attainment(COARSE, 0.025) == pytest.approx(0.8)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_the_quantile_is_the_inverse_of_attainment(share: float) -> None:
    found = histograms.lognormal_quantile(COARSE, share)
    assert found is not None
    assert histograms.lognormal_attainment(COARSE, found) == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize(
    ("expected", "found"),
    [(0.020, 0.025), (0.030, 0.030), (0.049, 0.038)],
    ids=["below the bucket", "inside", "beyond the interpolation"],
)
def test_in_the_last_filled_bucket_the_expected_latency_counts(
    expected: float, found: float
) -> None:
    assert histograms.lognormal_quantile(COARSE, 0.99, expected=expected) == pytest.approx(
        found, abs=0.001
    )


def test_in_other_buckets_the_measurement_counts() -> None:
    assert histograms.lognormal_quantile(
        COARSE, 0.5, expected=0.011
    ) == histograms.lognormal_quantile(COARSE, 0.5)


def test_without_requests_there_is_no_attainment() -> None:
    assert histograms.lognormal_attainment(EMPTY, 0.1) is None
    assert histograms.lognormal_quantile(EMPTY, 0.9) is None


def test_a_correction_moves_slowly_to_measured_over_predicted() -> None:
    found = Feedback()
    for _ in range(4):
        found = feedback.with_correction(found, "ttft", measured=0.4, predicted=0.2, seconds=15.0)
    assert 1.0 < found.corrections["ttft"] < 1.3
    for _ in range(200):
        found = feedback.with_correction(found, "ttft", measured=0.4, predicted=0.2, seconds=15.0)
    assert found.corrections["ttft"] == pytest.approx(2.0, rel=0.001)


def test_a_correction_is_bounded() -> None:
    found = Feedback()
    for _ in range(500):
        found = feedback.with_correction(found, "ttft", measured=9.0, predicted=0.01, seconds=60.0)
    assert found.corrections["ttft"] == 3.0


def test_kappa_grows_while_the_budget_is_overspent_and_falls_back_slower() -> None:
    up = feedback.with_kappa(Feedback(), spent=2.0, seconds=300.0)
    down = feedback.with_kappa(up, spent=0.5, seconds=300.0)
    assert 1.0 < down.kappa < up.kappa
    assert up.kappa - down.kappa < up.kappa - 1.0


def test_kappa_stays_while_it_can_not_be_judged() -> None:
    assert feedback.with_kappa(Feedback(kappa=1.3), spent=None, seconds=300.0).kappa == 1.3


def _after(lasts: float, times: int) -> Spikes:
    found, now = Spikes(), 0.0
    for _ in range(times):
        found = spikes.update(found, work=5.0, supply=2, now=now, horizon=200.0)
        for _ in range(int(lasts / 10)):
            now += 10.0
            found = spikes.update(found, work=5.0, supply=5, now=now, horizon=200.0)
        now += 10.0
        found = spikes.update(found, work=1.0, supply=5, now=now, horizon=200.0)
        now += 600.0
    return spikes.update(found, work=5.0, supply=2, now=now, horizon=200.0)


def test_the_first_spikes_are_worth_pods() -> None:
    found = _after(60.0, 0)
    assert not spikes.futile(found, now=found.began or 0.0, horizon=200.0)


def test_spikes_that_were_short_again_and_again_are_not() -> None:
    found = _after(60.0, 4)
    assert found.began is not None
    assert spikes.futile(found, now=found.began, horizon=200.0)
    assert not spikes.futile(found, now=found.began + 200.0, horizon=200.0)  # this one is long


def test_spikes_that_last_are_worth_pods() -> None:
    found = _after(400.0, 4)
    assert not spikes.futile(found, now=found.began or 0.0, horizon=200.0)


def test_needs_are_the_highest_of_the_window() -> None:
    found: stabilization.Needs = ()
    for now, need in ((0.0, 9), (100.0, 2), (200.0, 3), (305.0, 1)):
        found = stabilization.record(found, need, now=now, window=300.0)
    assert stabilization.highest(found) == 3


def test_needs_take_little_room() -> None:
    found: stabilization.Needs = ()
    for second in range(0, 5000, 5):
        found = stabilization.record(found, second % 7, now=float(second), window=300.0)
    assert len(found) <= 11


def test_load_within_the_targets_is_capacity() -> None:
    assert concurrency.learn(2.0, per_replica=10.0, pressure=1.0) == 10.0
    assert concurrency.learn(None, per_replica=10.0, pressure=2.0) == 5.0
    assert concurrency.learn(7.0, per_replica=0.5, pressure=2.0) == 7.0
    assert concurrency.replicas(None, in_flight=100.0) == 0
    assert concurrency.replicas(10.0, in_flight=100.0) == 12


SEEN = coldstart.learn(ColdStart(), [180.0] * 8)


def _survey(
    *pods: PodStatus,
    ordered: int = 0,
    ordered_at: float = 0.0,
    coming: tuple[str, ...] = (),
    cold: ColdStart = SEEN,
    provision: float = supply.UNSCHEDULABLE_AFTER,
) -> supply.Supply:
    return supply.survey(
        pods,
        ordered=ordered,
        ordered_at=ordered_at,
        now=1000.0,
        cold=cold,
        coming=coming,
        provision=provision,
    )


def test_pods_are_supply_until_they_are_stuck() -> None:
    found = _survey(
        PodStatus("ready", 0.0, 100.0),
        PodStatus("coming", 900.0, None),
        PodStatus("no-node", 900.0, None, scheduled=False),
        PodStatus("no-node-yet", 990.0, None, scheduled=False),
        PodStatus("fails", 900.0, None, failed_starts=1),
        PodStatus("overdue", 100.0, None),
        PodStatus("leaving", 0.0, 100.0, terminating=True),
    )
    assert (found.ready, found.starting, found.stuck) == (1, 2, 3)
    assert found.limited == "1 pod is unschedulable"


def test_a_pod_without_a_node_is_coming_while_one_may_be_made() -> None:
    waiting = PodStatus("no-node", 200.0, None, scheduled=False)
    found = _survey(waiting, provision=900.0)
    assert (found.ready, found.starting, found.stuck, found.limited) == (0, 1, 0, None)
    late = _survey(waiting, provision=700.0)
    assert (late.starting, late.stuck, late.limited) == (0, 1, "1 pod is unschedulable")


def test_a_missing_pod_counts_as_starting_until_it_is_overdue() -> None:
    assert _survey(PodStatus("a", 0.0, 60.0), ordered=3, ordered_at=990.0).starting == 2
    refused = _survey(PodStatus("a", 0.0, 60.0), ordered=3, ordered_at=900.0)
    assert (refused.starting, refused.unschedulable) == (0, 2)


def test_engines_that_fail_again_and_again_are_broken() -> None:
    failing = [PodStatus(name, 900.0, None, failed_starts=2) for name in "ab"]
    assert _survey(*failing).broken
    assert not _survey(failing[0]).broken


def test_a_start_is_timed_when_the_pod_was_seen_to_start() -> None:
    pods = (PodStatus("new", 900.0, 990.0), PodStatus("old", 0.0, 5.0))
    assert _survey(*pods, coming=("new",)).started == (90.0,)


def test_as_long_as_no_start_was_seen_those_that_were_not_watched_tell() -> None:
    pods = (PodStatus("first", 0.0, 70.0), PodStatus("ready-again", -9000.0, 5.0))
    assert _survey(*pods, cold=ColdStart()).started == (70.0,)


def test_before_any_start_was_seen_pods_may_take_long() -> None:
    slow = PodStatus("slow", -400.0, None)
    assert _survey(slow).stuck == 1
    found = _survey(slow, cold=ColdStart())
    assert (found.starting, found.stuck, found.waited) == (1, 0, 1400.0)
