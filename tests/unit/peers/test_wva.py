"""WVA: what its engines decide, and how late its HPA follows."""

import math
from collections.abc import Mapping

import pytest

from slipstream_operator.core.scaling.metrics.values import Sample
from slipstream_simulator.peers import (
    wva,
    wva_old,
    wva_v1,
    wva_v2,
)
from slipstream_simulator.peers.queueing import Profile, Queue
from slipstream_simulator.peers.wva_v1 import SaturationV1
from slipstream_simulator.peers.wva_v2 import SaturationV2
from slipstream_simulator.policy import Pod
from tests.support import views
from tests.support.views import ENGINE

PROFILE = Profile(alpha=0.007, beta=0.00007, gamma=0.007, delta=32e-6, batch=64)


def _loads(*loads: tuple[float, float]) -> Mapping[str, views.Result]:
    """KV usage and queue of each pod."""
    return {
        "kv": views.by_pod(*(kv for kv, _ in loads)),
        "queue": views.by_pod(*(queue for _, queue in loads)),
    }


def test_v1_adds_one_replica_however_many_are_missing() -> None:
    look = views.view(2, _loads((0.99, 90), (0.99, 90)))
    assert SaturationV1(0.8).desired(look, 2) == 3


@pytest.mark.parametrize("load", [(0.71, 0.0), (0.1, 2.5)])
def test_v1_adds_one_when_either_spare_is_below_its_trigger(load: tuple[float, float]) -> None:
    assert SaturationV1(0.8).desired(views.view(2, _loads(load, load)), 2) == 3


@pytest.mark.parametrize(("kv", "wanted"), [(0.46, 2), (0.47, 3)])
def test_v1_removes_one_if_the_others_keep_their_spare(kv: float, wanted: int) -> None:
    assert SaturationV1(0.8).desired(views.view(3, _loads(*[(kv, 0.0)] * 3)), 3) == wanted


def test_v1_does_not_count_saturated_replicas() -> None:
    hot, idle = [(0.95, 30.0)] * 8, [(0.05, 0.0)] * 2
    assert SaturationV1(0.8).desired(views.view(10, _loads(*hot, *idle)), 10) == 9


def test_v1_is_frozen_while_a_pod_does_not_report() -> None:
    look = views.view(3, _loads((0.9, 9), (0.9, 9)), of=views.pods(2, starting=1))
    assert SaturationV1(0.8).desired(look, 3) == 3


def test_v1_is_frozen_while_the_count_is_not_what_it_wanted() -> None:
    look = views.view(10, _loads(*[(0.05, 0.0)] * 10))
    assert SaturationV1(0.8).desired(look, 11) == 11


def test_v1_takes_nan_for_zero() -> None:
    assert SaturationV1(0.8).desired(views.view(2, _loads(*[(math.nan, math.nan)] * 2)), 2) == 1


def test_the_charts_hpa_waits_four_minutes_for_a_replica() -> None:
    policy = wva_v1.shipped(ENGINE, 0.8)
    counts = views.driven(policy, lambda _, n: _loads(*[(0.9, 9.0)] * n), replicas=2, until=600)
    assert 15 * counts.index(3) == 255


def test_without_the_window_a_replica_comes_one_sync_after_the_gauge() -> None:
    policy = wva_v1.without_window(ENGINE, 0.8)
    counts = views.driven(policy, lambda _, n: _loads(*[(0.9, 9.0)] * n), replicas=2, until=120)
    assert counts == [2, 3, 3, 4, 4, 5, 5, 6]


def test_wva_keeps_what_it_emitted_over_a_restart() -> None:
    policy = wva_v1.without_window(ENGINE, 0.8)
    policy.decide(views.view(2, _loads((0.9, 9.0), (0.9, 9.0))))
    policy.restarted()
    frozen = _loads((0.9, 9.0), (0.9, 9.0))
    assert policy.decide(views.view(2, frozen, now=15)) == 3


def _tokens(
    *loads: tuple[float, float], prompt: float = 1000.0, output: float = 200.0
) -> Mapping[str, views.Result]:
    """V2's queries; each pod has 100,000 tokens of KV."""
    sizes = [
        Sample({"pod": f"p{index}", "num_gpu_blocks": "6250", "block_size": "16"}, 1.0)
        for index in range(len(loads))
    ]
    lengths = {"prompt": prompt, "output": output}
    means = {name: views.by_pod(*[value] * len(loads)) for name, value in lengths.items()}
    return {**_loads(*loads), "sizes": sizes, **means}


def test_v2_adds_as_many_as_the_demand_needs() -> None:
    # A queue of 5 and more: what is in use now, 80,000 tokens, is the capacity; 100 wait with 1,000 tokens each.
    look = views.view(2, _tokens((0.8, 100.0), (0.8, 100.0)))
    demand = 2 * (80_000 + 100_000)
    assert SaturationV2(ENGINE, 0.85).desired(look, 2) == math.ceil(demand / 0.85 / 80_000)


def test_v2_counts_starting_pods_as_supply() -> None:
    look = views.view(6, _tokens((0.8, 100.0), (0.8, 100.0)), of=views.pods(2, starting=4))
    assert SaturationV2(ENGINE, 0.85).desired(look, 6) == 6


def test_v2_removes_all_spare_at_once() -> None:
    look = views.view(10, _tokens(*[(0.05, 0.0)] * 10))
    assert SaturationV2(ENGINE, 0.85).desired(look, 10) == 1


def test_v2_learns_a_small_capacity_from_a_burst_onto_empty_replicas() -> None:
    engine = SaturationV2(ENGINE, 0.85)
    engine.desired(views.view(2, _tokens((0.05, 20.0), (0.05, 20.0))), 2)
    calm = _tokens((0.4, 0.0), (0.4, 0.0))
    assert engine.desired(views.view(2, calm), 2) == math.ceil(80_000 / 0.85 / 5_000)


def test_v2_forgets_what_it_learned_in_a_restart() -> None:
    engine = SaturationV2(ENGINE, 0.85)
    engine.desired(views.view(2, _tokens((0.05, 20.0), (0.05, 20.0))), 2)
    engine.restarted()
    assert engine.desired(views.view(2, _tokens((0.4, 0.0), (0.4, 0.0))), 2) == 2


def test_v2_without_pods_that_report_emits_the_same() -> None:
    engine = wva_v2.SaturationV2(ENGINE, 0.85)
    assert engine.desired(views.view(4, _tokens()), 7) == 7


def _flow(rate: float | None, prompt: float = 1155, output: float = 211) -> dict[str, views.Result]:
    if rate is None:
        return {"completions": [], "prompt": [], "output": []}
    return {
        "completions": views.number(rate),
        "prompt": views.number(prompt),
        "output": views.number(output),
    }


def test_the_old_one_divides_completions_by_what_its_model_allows() -> None:
    controller = wva_old.Inferno(ENGINE, 1.0)
    one = controller.desired(views.view(1, _flow(7.0)), 1)
    ten = controller.desired(views.view(1, _flow(70.0)), 1)
    assert one == 1
    assert ten == 8


@pytest.mark.parametrize("flow", [_flow(None), _flow(0.0), _flow(math.nan)])
def test_the_old_one_takes_a_minute_without_completions_for_no_load(
    flow: Mapping[str, views.Result],
) -> None:
    controller = wva_old.Inferno(ENGINE, 1.0)
    assert controller.desired(views.view(9, flow), 9) == 9  # nothing was ever completed
    controller.desired(views.view(9, _flow(70.0)), 9)
    assert controller.desired(views.view(9, flow), 9) == 1


def test_an_outage_leaves_the_old_ones_count_alone() -> None:
    policy = wva_old.without_window(ENGINE, 1.0)
    away = dict.fromkeys(policy.queries(), views.AWAY)
    assert set(views.driven(policy, lambda *_: away, replicas=9, until=300)) == {9}


def test_a_batch_of_one_is_the_textbook_queue() -> None:
    """M/M/1/11: see Gross and Harris, Fundamentals of Queueing Theory, section 2.4."""
    profile = Profile(alpha=0.01, beta=0.0, gamma=0.1, delta=0.0, batch=1)
    service = 0.1 + 40 * 0.01
    rate, places = 1.6, 11
    rho = rate * service
    share = [(1 - rho) * rho**n / (1 - rho ** (places + 1)) for n in range(places + 1)]
    waiting = sum((n - 1) * p for n, p in enumerate(share) if n > 1)
    expected = waiting / (rate * (1 - share[-1])) + 0.1
    assert Queue(profile, prompt=1, output=40).steady(rate).ttft == pytest.approx(expected)


def test_the_largest_rate_keeps_both_targets_and_no_more() -> None:
    queue = Queue(PROFILE, prompt=500, output=100)
    rate = queue.largest_rate(ttft=0.5, itl=0.010)
    kept, missed = queue.steady(rate), queue.steady(rate * 1.02)
    assert kept.ttft <= 0.5
    assert kept.itl <= 0.010
    assert missed.ttft > 0.5 or missed.itl > 0.010


def test_an_objective_below_the_empty_engines_step_leaves_a_trickle() -> None:
    assert Queue(PROFILE, prompt=500, output=100).largest_rate(ttft=0.5, itl=0.006) < 0.01


def test_wva_emits_the_present_count_at_first() -> None:
    policy = wva.Pipeline("wva", SaturationV1(0.8))
    pods: tuple[Pod, ...] = views.pods(1, starting=3)
    samples = _loads((0.5, 0.0))
    assert policy.decide(views.view(4, samples, of=pods)) == 4
    assert policy.decide(views.view(4, samples, of=pods, now=15)) == 4
