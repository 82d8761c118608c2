"""A simulated fleet: the same luck for every policy, honest Prometheus, pods as Kubernetes keeps them."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from slipstream_operator.core.scaling.metrics.promql import (
    Age,
    Binary,
    By,
    Expression,
    Over,
    Series,
)
from slipstream_operator.core.scaling.metrics.values import Sample, Unknown
from slipstream_runtime import contract
from slipstream_simulator import (
    limits,
    scenarios,
    score,
    simulation,
    traffic,
)
from slipstream_simulator.kernel import misses
from slipstream_simulator.kernel.fleet import Kernel
from slipstream_simulator.policy import FleetView
from slipstream_simulator.prometheus import evaluation
from slipstream_simulator.prometheus.catalogue import Field
from slipstream_simulator.prometheus.table import Table

# NB: the kernel is compiled once for each version of its sources.
pytestmark = pytest.mark.timeout(300)

PUBLISHED = Path(__file__).parents[3] / "benchmarks/autoscaling/scenarios"

BASE = {
    "apiVersion": "simulation.slipstream.dev/v1alpha1",
    "kind": "Scenario",
    "name": "small",
    "duration": "10m",
    "slo": {"ttft": {"p95": "1s"}},
    "scaling": {"minReplicas": 1, "maxReplicas": 4, "initialReplicas": 2},
    "coldStart": {"distribution": "fixed", "value": "60s"},
    "traffic": [
        {
            "arrivals": {"process": "poisson", "rate": 5},
            "prompt": {"distribution": "fixed", "value": 200},
            "output": {"distribution": "exponential", "mean": 50, "max": 200},
        }
    ],
}


def given(**changes) -> scenarios.Scenario:
    return scenarios.parse({**copy.deepcopy(BASE), **changes}, what="test")


class Scripted:
    """Decides by a function of what it sees, which it keeps."""

    name = "scripted"
    every = 15.0

    def __init__(
        self, decide: Callable[[FleetView], int], queries: Mapping[str, Expression] | None = None
    ) -> None:
        self._decide, self._queries = decide, queries or {}
        self.views: list[FleetView] = []
        self.restarts = 0

    def queries(self) -> Mapping[str, Expression]:
        return self._queries

    def decide(self, view: FleetView) -> int:
        self.views.append(view)
        return self._decide(view)

    def restarted(self) -> None:
        self.restarts += 1


def hold(view: FleetView) -> int:
    return view.replicas


def test_traffic_depends_on_the_seed_alone() -> None:
    one = traffic.requests(given(), seed=1)
    again = traffic.requests(given(scaling={"maxReplicas": 9}), seed=1)
    other = traffic.requests(given(), seed=2)
    np.testing.assert_array_equal(one["arrival"], again["arrival"])
    np.testing.assert_array_equal(one["output"], again["output"])
    assert not np.array_equal(one["arrival"][:100], other["arrival"][:100])
    assert len(one) == pytest.approx(3000, rel=0.1)


def test_the_requests_of_a_run_are_its_own() -> None:
    first = simulation.run(given(), Scripted(hold), seed=1)
    again = simulation.run(given(), Scripted(hold), seed=1)
    assert first.requests is not again.requests
    np.testing.assert_array_equal(first.requests["finished"], again.requests["finished"])


def test_gamma_arrivals_have_their_coefficient_of_variation() -> None:
    piece = {**BASE["traffic"][0], "arrivals": {"process": "gamma", "cv": 4.0, "rate": 50}}
    gaps = np.diff(traffic.requests(given(traffic=[piece]), seed=0)["arrival"])
    assert gaps.std() / gaps.mean() == pytest.approx(4, rel=0.1)


def test_lengths_cross_over_between_two_points() -> None:
    lengths = [
        ["4m", {"distribution": "fixed", "value": 100}],
        ["6m", {"distribution": "fixed", "value": 900}],
    ]
    records = traffic.requests(given(traffic=[{**BASE["traffic"][0], "prompt": lengths}]), seed=0)
    assert set(records["prompt"][records["arrival"] < 240]) == {100}
    assert set(records["prompt"][records["arrival"] > 360]) == {900}
    between = records["prompt"][(records["arrival"] > 270) & (records["arrival"] < 330)]
    assert 350 < between.mean() < 650


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"duration": 600}, "duration: 600: a unit is missing: write it as text, for example 30s"),
        ({"durration": "1h"}, "durration: there is no such field: remove it or correct its name"),
        ({"slo": {}}, "slo has no latency objective: add for example ttft: {p95: 1s}"),
        ({"warmup": "20m"}, "warmup 1200s leaves nothing of duration 600s: shorten it"),
        ({"events": [{"at": "1m"}]}, "an event needs one of metricsOutage"),
        ({"events": [{"at": "2h", "quota": 1}]}, "comes after the end at 600s: move it"),
    ],
)
def test_a_wrong_scenario_is_refused_with_a_remedy(change: dict, wanted: str) -> None:
    with pytest.raises(scenarios.ScenarioError) as refused:
        given(**change)
    assert wanted in str(refused.value)


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_published_scenario_is_valid(path: Path) -> None:
    assert path.stem.endswith(scenarios.load(path).name)


def test_noise_changes_what_is_seen_but_no_counter_falls() -> None:
    asked = {"running": Series(contract.RUNNING), "tokens": Series(contract.GENERATION_TOKENS)}
    clean, noisy = Scripted(hold, asked), Scripted(hold, asked)
    simulation.run(given(), clean, seed=0)
    simulation.run(given(events=[{"at": "0s", "noise": "50%"}]), noisy, seed=0)

    def values(policy: Scripted, name: str) -> list[float]:
        return [view.samples[name][0].value for view in policy.views]

    assert values(clean, "running") != values(noisy, "running")
    tokens = values(noisy, "tokens")
    assert tokens == sorted(tokens)
    assert tokens != values(clean, "tokens")


def test_a_policy_that_asks_nothing_runs_under_any_fault() -> None:
    faults = [
        {"at": "1m", "noise": "20%"},
        {"at": "2m", "freezeSeries": {"pods": 1}, "for": "1m"},
        {"at": "3m", "nanSeries": {"pods": 1}, "for": "1m"},
        {"at": "4m", "dropSeries": {"pods": 1}, "for": "1m"},
        {"at": "5m", "slowPod": {"count": 1, "speed": 0.5}, "for": "1m"},
        {"at": "6m", "resetCounters": {"pods": 2}},
    ]
    run = simulation.run(given(events=faults), Scripted(hold), seed=0)
    assert score.score(run).attainment == 1.0


OVERLOADED = {**BASE["traffic"][0], "arrivals": {"process": "poisson", "rate": 100}}
IN_TIME = {**OVERLOADED, "deadline": "20s"}


def test_misses_are_counted_as_the_score_counts_them() -> None:
    one = given(
        traffic=[OVERLOADED, IN_TIME],
        slo={"ttft": {"p95": "1s"}, "tpot": {"p95": "20ms"}},
        client={"timeout": "30s", "retries": 1},
        warmup="1m",
        events=[{"at": "5m", "losePods": "50%"}],
    )
    run = simulation.run(one, Scripted(hold), seed=0)
    seen = score.verdicts(run)
    missed, judged = misses.count(run.requests, one.warmup, one.duration, limits.table(one))
    assert judged == seen.judged.sum()
    assert missed == (seen.judged & ~seen.attained).sum() > 0


def test_an_attempt_ends_as_soon_as_it_is_hopeless_and_is_the_run_otherwise() -> None:
    one = given(traffic=[OVERLOADED], slo={"ttft": {"p95": "10ms"}})
    missed: list[int] = []

    def hopeless(kernel: Kernel) -> bool:
        missed.append(kernel.missed(0.0, limits.table(one)))
        return missed[-1] > 1000

    assert simulation.attempt(one, Scripted(hold), seed=0, hopeless=hopeless) is None
    assert len(missed) == 1
    whole = simulation.attempt(one, Scripted(hold), seed=0, hopeless=lambda _: False)
    assert whole is not None
    assert score.score(whole) == score.score(simulation.run(one, Scripted(hold), seed=0))


def test_a_new_pod_serves_after_its_cold_start_and_costs_from_its_schedule() -> None:
    run = simulation.run(given(), Scripted(lambda view: 3 if view.now >= 60 else 2), seed=0)
    third = run.pods[2]
    assert (third.created, third.scheduled, third.ready) == (60.0, 60.0, 120.0)
    assert score.gpu_hours(run) == pytest.approx((2 * 600 + 540) / 3600)


def test_lost_pods_are_replaced_and_their_requests_are_lost() -> None:
    busy = {**BASE["traffic"][0], "output": {"distribution": "fixed", "value": 500}}
    losing = given(events=[{"at": "5m", "losePods": "50%"}], traffic=[busy])
    run = simulation.run(losing, Scripted(hold), seed=0)
    assert run.ready[-2:] == [(300.0, 1), (360.0, 2)]
    assert score.score(run).failed > 0


def test_a_quota_keeps_pods_waiting_until_it_is_lifted() -> None:
    limited = given(events=[{"at": "0s", "quota": 2, "for": "5m"}])
    policy = Scripted(lambda _: 4)
    run = simulation.run(limited, policy, seed=0)
    assert [max(0.0, pod.scheduled or 0.0) for pod in run.pods] == [0.0, 0.0, 300.0, 300.0]
    assert [pod.scheduled for pod in policy.views[2].pods] == [True, True, False, False]


def test_failed_starts_back_off_and_end_with_the_fault() -> None:
    failing = given(events=[{"at": "0s", "failStarts": "100%", "for": "3m"}])
    run = simulation.run(failing, Scripted(lambda _: 3), seed=0)
    assert (run.pods[2].failed_starts, run.pods[2].ready) == (2, 15 + 60 + 10 + 60 + 20 + 60)


def test_removed_pods_finish_what_they_have() -> None:
    run = simulation.run(given(), Scripted(lambda _: 1), seed=0)
    gone = next(pod for pod in run.pods if pod.closed is not None)
    assert gone.closed == 15.0 and gone.ended is not None and gone.ended > 15.0
    assert score.score(run).failed == 0


def test_an_outage_is_unknown_and_scaling_down_in_it_is_counted() -> None:
    asked = {"running": Series(contract.RUNNING)}
    policy = Scripted(lambda view: 1 if view.now >= 300 else 2, asked)
    run = simulation.run(given(events=[{"at": "4m", "metricsOutage": "3m"}]), policy, seed=0)
    during = [view.samples["running"] for view in policy.views if 240 <= view.now < 420]
    assert all(isinstance(samples, Unknown) for samples in during)
    assert run.safety.down_while_incomplete == run.safety.removed_in_outage == 1


def test_a_scrape_that_fails_counts_as_missing_only_once_its_absence_can_be_seen() -> None:
    asked = {"running": Series(contract.RUNNING)}
    dropped = {"at": "4m", "dropSeries": {"pods": 2}, "for": "1m"}

    def unsafe(at: float) -> int:
        policy = Scripted(lambda view: 1 if view.now >= at else 2, asked)
        slow = given(metrics={"scrape": "15s", "lag": "40s"}, events=[dropped])
        return simulation.run(slow, policy, seed=0).safety.down_while_incomplete

    assert (unsafe(255.0), unsafe(315.0), unsafe(375.0)) == (0, 1, 0)


def test_without_a_router_requests_fail_while_no_pod_is_ready_and_with_one_they_wait() -> None:
    idle = {"minReplicas": 0, "maxReplicas": 2}
    wake = Scripted(lambda _: 1)
    held = simulation.run(given(scaling=idle), wake, seed=0)
    failed = simulation.run(given(scaling=idle, router=False), Scripted(lambda _: 1), seed=0)
    assert score.score(held).failed == 0
    assert score.score(held).ttft_p99 > 60
    assert 300 < score.score(failed).failed < 450


def test_clients_leave_and_come_back_as_often_as_they_may() -> None:
    crowd = [
        {**BASE["traffic"][0], "output": {"distribution": "fixed", "value": 20}},
    ]
    scaling = {"minReplicas": 0, "maxReplicas": 2}
    patient = given(
        traffic=crowd, scaling=scaling, client={"timeout": "5s", "retries": 1, "backoff": "1s"}
    )
    run = simulation.run(patient, Scripted(lambda _: 0), seed=0)
    arrived = run.requests[run.requests["arrival"] < 500]
    np.testing.assert_allclose(arrived["finished"] - arrived["arrival"], 11.0)
    assert run.safety.zero_with_requests == 0  # it never scaled down to zero: it began there


def test_the_operator_restarts_when_the_scenario_says() -> None:
    policy = Scripted(hold)
    simulation.run(given(events=[{"at": "3m", "restartOperator": True}]), policy, seed=0)
    assert policy.restarts == 1


def test_counters_agree_with_what_was_served() -> None:
    tokens = By(
        "sum", ("namespace", "service"), Over("increase", Series(contract.GENERATION_TOKENS), 300)
    )
    policy = Scripted(hold, {"tokens": tokens, "age": Age(Series(contract.RUNNING))})
    run = simulation.run(given(), policy, seed=0)
    (sample,) = policy.views[-1].samples["tokens"]
    assert sample.labels == {"namespace": "default", "service": "small"}
    assert sample.value == pytest.approx(5 * 300 * run.requests["output"].mean(), rel=0.1)
    ages = {sample.value for sample in policy.views[-1].samples["age"]}
    assert ages == {0.0}


def table(values: list[float | None], *, kind: str = "counter", every: float = 10.0) -> Table:
    series = Table([Field("x", 0, kind)], rows=len(values), keep=100)
    for row, value in enumerate(values):
        names = [] if value is None else ["a"]
        series.append(
            row * every,
            names,
            [{"pod": name} for name in names],
            np.array([[value or 0.0]] * len(names)),
        )
    return series


def ask(expression: Expression, of: Table, *, now: float) -> list[Sample]:
    return evaluation.plan(expression, [of])(evaluation.Moment(now, of.rows - 1)).samples()


def test_targets_that_come_together_are_all_there_and_take_the_places_of_those_long_gone() -> None:
    series = Table([Field("x", 0, "gauge")], rows=20, keep=2)

    def scrape(*names: str) -> None:
        values = np.arange(float(len(names)))[:, None]
        series.append(15.0 * series.rows, names, [{"pod": name} for name in names], values)

    scrape("a", "b")
    for _ in range(4):
        scrape("a")
    scrape("a", "c", "d", "e")
    found = ask(Series("x"), series, now=75)
    assert {(one.labels["pod"], one.value) for one in found} == {
        ("a", 0.0), ("c", 1.0), ("d", 2.0), ("e", 3.0)
    }  # fmt: skip
    assert len(series.targets) == 4


def test_of_a_histogram_the_buckets_that_are_wanted_are_found_alone() -> None:
    bounds = ("0.5", "1.0", "+Inf")
    fields = [Field("x", column, "gauge", {"le": bound}) for column, bound in enumerate(bounds)]
    series = Table(fields, rows=1, keep=10)
    series.append(0.0, ["a"], [{"pod": "a"}], np.array([[1.0, 2.0, 3.0]]))
    found = ask(Series("x", bounds=("0.5", "+Inf")), series, now=0)
    assert [sample.value for sample in found] == [1.0, 3.0]


def test_a_rate_survives_a_reset_and_is_extrapolated_to_its_window() -> None:
    # From 100 to 130 and, after a reset, 20 more: 50 in 40 s, stretched to the window of 50 s.
    (sample,) = ask(Over("increase", Series("x"), 50), table([100, 110, 130, 10, 20]), now=45)
    assert sample.value == pytest.approx(50 * 50 / 40)


def test_a_range_of_one_sample_has_no_rate() -> None:
    assert ask(Over("rate", Series("x"), 15), table([1, 2, 3]), now=29) == []


def test_a_target_that_was_not_scraped_is_absent_now_but_not_from_the_range() -> None:
    gone = table([1, 2, 3, None], kind="gauge")
    assert ask(Series("x"), gone, now=30) == []
    assert ask(Over("avg_over_time", Series("x"), 35), gone, now=30)[0].value == 2


def test_a_sample_of_more_than_five_minutes_is_stale() -> None:
    assert ask(Series("x"), table([1]), now=300)[0].value == 1
    assert ask(Series("x"), table([1]), now=301) == []


def test_or_adds_only_the_series_that_the_left_lacks() -> None:
    series = Table([Field("x", 0, "gauge"), Field("y", 1, "gauge")], rows=1, keep=10)
    series.append(0.0, ["a", "b"], [{"pod": "a"}, {"pod": "b"}], np.array([[1.0, 5.0], [2.0, 6.0]]))
    both = Binary(Series("x"), "or", Series("y"))
    assert [sample.value for sample in ask(both, series, now=0)] == [1.0, 2.0]
    total = By("sum", (), Binary(Series("x"), "+", Series("y")))
    assert ask(total, series, now=0)[0].value == 14.0
