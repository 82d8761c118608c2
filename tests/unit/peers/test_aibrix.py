"""AIBrix's three modes, with the defects that they ship and without."""

import math
from collections.abc import Callable, Mapping

import pytest

from slipstream_operator.core.scaling.metrics.values import Sample
from slipstream_runtime.simulator import model
from slipstream_simulator.peers import aibrix, aibrix_optimizer
from slipstream_simulator.policies import capacity
from slipstream_simulator.policy import Policy
from tests.support import views
from tests.support.views import ENGINE, OBJECTIVES


def _kv(*usage: float) -> Mapping[str, views.Result]:
    return {"kv": views.by_pod(*usage)}


@pytest.mark.parametrize(("usage", "wanted"), [(0.54, 4), (0.6, 5), (0.99, 8), (0.3, 3), (0.1, 2)])
def test_apa_multiplies_the_count_and_doubles_or_halves_at_most(usage: float, wanted: int) -> None:
    assert aibrix.apa(ENGINE, 0.5).decide(views.view(4, _kv(*[usage] * 4))) == wanted


def test_apa_multiplies_a_stale_mean_by_the_new_count() -> None:
    policy = aibrix.apa(ENGINE, 0.5)
    samples = lambda now, n: _kv(*[0.9 if now < 60 else 0.45] * n)  # noqa: E731
    assert max(views.driven(policy, samples, replicas=4, until=180, maximum=99)) > 16
    repaired = aibrix.apa_repaired(ENGINE, 0.5)
    assert max(views.driven(repaired, lambda _, n: _kv(*[3.6 / n] * n), replicas=4, until=180)) == 8


def test_kpa_halves_an_overloaded_fleet() -> None:
    assert aibrix.kpa(ENGINE, 0.5).decide(views.view(8, _kv(*[0.9] * 8))) == 4


def test_kpa_repaired_adds_to_an_overloaded_fleet() -> None:
    assert aibrix.kpa_repaired(ENGINE, 0.5).decide(views.view(8, _kv(*[0.9] * 8))) == 15


def test_silent_pods_read_as_idle() -> None:
    look = views.view(4, _kv(0.5, 0.5), of=views.pods(2, starting=2))
    assert aibrix.apa(ENGINE, 0.5).decide(look) == 2
    assert aibrix.apa_repaired(ENGINE, 0.5).decide(look) == 4


def test_repaired_pods_that_start_are_neither_load_nor_reason_for_more() -> None:
    look = views.view(6, _kv(0.8, 0.8, 0.8), of=views.pods(3, starting=3))
    assert aibrix.apa_repaired(ENGINE, 0.5).decide(look) == 6
    assert aibrix.kpa_repaired(ENGINE, 0.5).decide(look) == 6


def test_the_cool_down_lets_one_low_outlier_decide() -> None:
    stabilization = aibrix.Stabilization(repaired=False)
    assert stabilization.settle(views.view(8, {}, now=0), 8) == 8
    assert stabilization.settle(views.view(2, {}, now=10), 8) == 8
    stabilization.settle(views.view(8, {}, now=20), 2)
    assert stabilization.settle(views.view(8, {}, now=200), 7) == 2


def test_the_repaired_cool_down_waits_for_the_highest_advice_to_leave() -> None:
    stabilization = aibrix.Stabilization(repaired=True)
    assert stabilization.settle(views.view(8, {}, now=0), 8) == 8
    assert stabilization.settle(views.view(8, {}, now=290), 2) == 8
    assert stabilization.settle(views.view(8, {}, now=310), 2) == 2


def test_an_outage_of_prometheus_does_not_reach_a_controller_that_asks_the_pods() -> None:
    assert aibrix.apa(ENGINE, 0.5).decide(views.view(6, {"kv": views.AWAY})) == 6


def _trace(window: float, current: float) -> Mapping[str, views.Result]:
    """Requests of 512 to 2,048 prompt and of 64 to 256 output tokens: 1024 and 128 in the middle."""
    prompts = {"512": 0.0, "2048": window, "+Inf": window}
    outputs = {"64": 0.0, "256": window, "+Inf": window}
    return {
        "window": views.number(window),
        "current": views.number(current),
        "prompt": [Sample({"le": bound}, count) for bound, count in prompts.items()],
        "output": [Sample({"le": bound}, count) for bound, count in outputs.items()],
    }


def test_the_optimizer_divides_arrivals_by_the_profiled_rate() -> None:
    one = capacity.rate(ENGINE, OBJECTIVES, prompt=1024, output=128)
    policy = aibrix_optimizer.shipped(ENGINE, 1.0)
    assert policy.decide(views.view(4, _trace(240 * 5.5 * one, 0.0))) == 6


def test_the_optimizer_takes_the_current_rate_if_it_is_higher() -> None:
    one = capacity.rate(ENGINE, OBJECTIVES, prompt=1024, output=128)
    policy = aibrix_optimizer.shipped(ENGINE, 1.0)
    assert policy.decide(views.view(4, _trace(240 * one, 30 * 6.5 * one))) == 7


def test_a_size_between_two_powers_counts_for_both() -> None:
    rates = [capacity.rate(ENGINE, OBJECTIVES, prompt=size, output=128) for size in (1024, 2048)]
    prompts = {"1024": 0.0, "2048": 9600.0, "+Inf": 9600.0}
    samples = {
        **_trace(9600.0, 0.0),
        "prompt": [Sample({"le": bound}, count) for bound, count in prompts.items()],
    }
    wanted = math.ceil(9600 / 240 * (0.5 / rates[0] + 0.5 / rates[1]))
    assert aibrix_optimizer.shipped(ENGINE, 1.0).decide(views.view(4, samples)) == wanted


def test_an_empty_trace_goes_to_the_minimum() -> None:
    policy = aibrix_optimizer.shipped(ENGINE, 1.0)
    empty: Mapping[str, views.Result] = {name: [] for name in policy.queries()}
    assert views.driven(policy, lambda *_: empty, replicas=8, until=20) == [8, 8]
    policy.decide(views.view(8, _trace(9600.0, 0.0)))
    assert views.driven(policy, lambda *_: empty, replicas=8, until=40) == [4, 2, 1, 1]


@pytest.mark.parametrize("make", [aibrix.apa, aibrix.kpa])
def test_without_pods_it_goes_to_one(make: Callable[[model.Parameters, float], Policy]) -> None:
    assert make(ENGINE, 0.5).decide(views.view(0, _kv(), minimum=0)) == 1
    assert make(ENGINE, 0.5).decide(views.view(1, _kv(0.0), minimum=0)) == 1


def test_capacity_is_what_the_engine_keeps_and_no_more() -> None:
    rate = capacity.rate(ENGINE, OBJECTIVES, prompt=1155, output=211)
    assert 11 < rate < 15  # the closed form for a mean of 20 ms gives 12.6, without any limit 19.3


def test_capacity_falls_with_the_size_of_requests() -> None:
    rates = [
        capacity.rate(ENGINE, OBJECTIVES, prompt=prompt, output=output)
        for prompt, output in [(256, 64), (1024, 64), (1024, 256), (8192, 256)]
    ]
    assert rates == sorted(rates, reverse=True)


def test_capacity_of_requests_that_never_fit_is_one_at_a_time() -> None:
    rate = capacity.rate(ENGINE, OBJECTIVES, prompt=262_144, output=1024)
    assert 0 < rate < 0.1
