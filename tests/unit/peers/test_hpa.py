"""The HorizontalPodAutoscaler's arithmetic and memory, and KEDA on top of it."""

import pytest

from slipstream_operator.core.scaling.metrics.promql import Series
from slipstream_operator.core.scaling.metrics.values import Sample, Unknown
from slipstream_simulator.peers import hpa, hpa_pods, keda
from tests.support import views

UNKNOWN = Unknown("not there")


@pytest.mark.parametrize(
    ("mean", "wanted"), [(5.4, 4), (4.6, 4), (5.6, 5), (10.0, 8), (2.5, 2)], ids=str
)
def test_pods_metric_scales_outside_a_tolerance_of_a_tenth(mean: float, wanted: int) -> None:
    look = views.view(4, {})
    values = {f"p{index}": mean for index in range(4)}
    assert hpa.pods_metric(look, values, target=5.0) == wanted


def test_missing_pods_count_as_idle_when_the_others_ask_for_more() -> None:
    values = {"p0": 10.0, "p1": 10.0, "p2": 10.0}
    assert hpa.pods_metric(views.view(4, {}), values, target=5.0) == 6  # 1.5 of 4


def test_missing_pods_count_as_on_target_when_the_others_ask_for_less() -> None:
    values = {"p0": 2.5, "p1": 2.5, "p2": 2.5}
    assert hpa.pods_metric(views.view(4, {}), values, target=5.0) == 3  # 0.625 of 4


def test_missing_pods_that_turn_the_direction_change_nothing() -> None:
    assert hpa.pods_metric(views.view(4, {}), {"p0": 6.0, "p1": 6.0}, target=5.0) == 4


def test_pods_without_a_node_count_as_idle_when_the_others_ask_for_more() -> None:
    look = views.view(6, {}, of=views.pods(3, unscheduled=3))
    assert hpa.pods_metric(look, {"p0": 15.0, "p1": 15.0, "p2": 15.0}, target=5.0) == 9
    assert hpa.pods_metric(look, {"p0": 10.0, "p1": 10.0, "p2": 10.0}, target=5.0) == 6


def test_no_report_at_all_is_unknown() -> None:
    assert isinstance(hpa.pods_metric(views.view(2, {}), {}, target=5.0), Unknown)


def test_average_value_shares_the_total_among_pods() -> None:
    look = views.view(4, {})
    assert hpa.average_value(look, 60.0, target=5.0) == 12
    assert hpa.average_value(look, 21.5, target=5.0) == 4  # 7.5 % too much


def test_value_multiplies_the_ready_pods_only() -> None:
    look = views.view(6, {}, of=views.pods(4, starting=2))
    assert hpa.value(look, 10.0, target=5.0) == 8


def test_a_burst_adds_four_pods_or_doubles_in_15_seconds() -> None:
    controller = hpa.Hpa()
    assert controller.sync(views.view(2, {}, now=0), [30]) == 6
    assert controller.sync(views.view(6, {}, now=15), [30]) == 12
    assert controller.sync(views.view(12, {}, now=30), [30]) == 24


def test_scale_down_takes_the_highest_advice_of_five_minutes() -> None:
    controller = hpa.Hpa()
    counts = []
    for now in range(0, 390, 15):
        advice = 7 if now == 30 else 2
        counts.append(controller.sync(views.view(8, {}, now=now), [advice]))
    assert counts[:20] == [8] * 20  # the count that it began with
    assert counts[20:22] == [7] * 2
    assert counts[22] == 2


def test_a_restart_begins_the_window_anew() -> None:
    controller = hpa.Hpa()
    for now in range(0, 300, 15):
        controller.sync(views.view(8, {}, now=now), [2])
    controller.restarted()
    assert controller.sync(views.view(8, {}, now=300), [2]) == 8


def test_a_window_for_scale_up_takes_the_lowest_advice() -> None:
    rules = hpa.Rules(60.0, (hpa.Rate("Pods", 10, 15),))
    controller = hpa.Hpa(hpa.Behavior(up=rules))
    counts = [controller.sync(views.view(2, {}, now=now), [5]) for now in range(0, 75, 15)]
    assert counts == [2, 2, 2, 2, 5]


def test_a_rate_counts_what_was_added_in_its_period() -> None:
    rules = hpa.Rules(0.0, (hpa.Rate("Pods", 1, 60),))
    controller = hpa.Hpa(hpa.Behavior(up=rules))
    replicas, counts = 2, []
    for now in range(0, 135, 15):
        replicas = controller.sync(views.view(replicas, {}, now=now), [9])
        counts.append(replicas)
    assert counts == [3, 3, 3, 3, 4, 4, 4, 4, 5]


def test_one_unknown_metric_forbids_the_way_down_and_not_the_way_up() -> None:
    impatient = hpa.Behavior(down=hpa.Rules(0.0, (hpa.Rate("Percent", 100, 15),)))
    assert hpa.Hpa(impatient).sync(views.view(4, {}), [2]) == 2
    assert hpa.Hpa(impatient).sync(views.view(4, {}), [2, UNKNOWN]) == 4
    assert hpa.Hpa(impatient).sync(views.view(4, {}), [6, UNKNOWN]) == 6
    assert hpa.Hpa(impatient).sync(views.view(4, {}), [UNKNOWN]) == 4


def test_an_hpa_on_pods_holds_while_prometheus_is_away() -> None:
    policy = hpa_pods.waiting(views.ENGINE, 5.0)
    assert policy.decide(views.view(4, {"gauge": views.by_pod(10, 10, 10, 10)})) == 8
    assert policy.decide(views.view(8, {"gauge": views.AWAY}, now=15)) == 8


def _keda(*, ignore_null_values: bool = True, fallback: keda.Fallback | None = None) -> keda.Keda:
    trigger = keda.prometheus(
        "q", Series("m"), threshold=5.0, ignore_null_values=ignore_null_values
    )
    return keda.Keda("k", (trigger,), fallback=fallback)


def test_keda_takes_vanished_series_for_no_load() -> None:
    counts = views.driven(_keda(), lambda *_: {"q": []}, replicas=6, until=330)
    assert counts[-1] == 1


def test_keda_holds_without_series_where_null_values_are_errors() -> None:
    policy = _keda(ignore_null_values=False)
    assert set(views.driven(policy, lambda *_: {"q": []}, replicas=6, until=600)) == {6}


def test_keda_holds_on_several_series() -> None:
    result = [Sample({"pod": "p0"}, 90.0), Sample({"pod": "p1"}, 90.0)]
    assert set(views.driven(_keda(), lambda *_: {"q": result}, replicas=2, until=120)) == {2}


def test_keda_falls_back_after_failures_in_a_row() -> None:
    policy = _keda(fallback=keda.Fallback(failures=3, replicas=6))
    counts = views.driven(policy, lambda *_: {"q": views.AWAY}, replicas=4, until=75)
    assert counts == [4, 4, 4, 6, 6]


def test_keda_goes_to_zero_after_its_cooldown_and_back_by_its_own_loop() -> None:
    policy = _keda()

    def idle_for_ten_minutes(now: float, _: int) -> dict[str, list[Sample]]:
        return {"q": views.number(0.0 if 30 <= now < 630 else 3.0)}

    counts = views.driven(policy, idle_for_ten_minutes, replicas=1, until=700, minimum=0)
    times = [index * 15 for index, count in enumerate(counts) if count == 0]
    assert (times[0], times[-1]) == (300, 615)


def test_keda_does_not_go_to_zero_while_a_trigger_fails() -> None:
    counts = views.driven(_keda(), lambda *_: {"q": views.AWAY}, replicas=1, until=900, minimum=0)
    assert set(counts) == {1}
