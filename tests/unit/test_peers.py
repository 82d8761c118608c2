"""The control laws of other autoscalers, by worked examples."""

import math
from collections.abc import Mapping

import numpy as np
import pytest

from slipstream_operator.core.objectives import Objective, Objectives
from slipstream_operator.core.scaling.signals import Sample, Unknown
from slipstream_operator.simulator.policies import (
    aibrix,
    concurrency,
    hpa,
    hpas,
    oracle,
    profile,
    wva,
)
from slipstream_operator.simulator.policies.peers import PEERS
from slipstream_operator.simulator.policies.policy import Pod, Seen
from slipstream_runtime.simulator.model import Parameters

CHAT = Parameters(alpha=0.007, beta=20e-6, gamma=45e-9, delta=32e-6, kv_tokens=120_000)
SLO = Objectives(
    (Objective("ttft", "p95", 1.0, "1s"), Objective("tpot", "p95", 0.04, "40ms")),
)


def seen(
    *,
    now: float = 0.0,
    pods: int = 1,
    starting: int = 0,
    replicas: int | None = None,
    samples: Mapping[str, object] | None = None,
    maximum: int = 32,
) -> Seen:
    named = {}
    for name, result in (samples or {}).items():
        if isinstance(result, list):
            named[name] = [
                Sample({"pod": f"pod-{i}", "service": "chat"}, v) for i, v in enumerate(result)
            ]
        elif result is None:
            named[name] = Unknown("no answer")
        else:
            named[name] = [Sample({"service": "chat"}, float(result))]
    return Seen(
        now=now,
        replicas=pods + starting if replicas is None else replicas,
        pods=tuple(
            Pod(f"pod-{i}", 0.0, i < pods, 1.0 if i < pods else None, False, True)
            for i in range(pods + starting)
        ),
        samples=named,
        minimum=1,
        maximum=maximum,
        objectives=SLO,
    )


def test_an_average_value_within_the_tolerance_changes_nothing() -> None:
    assert hpa.external(54, 5, current=10) == 10
    assert hpa.external(56, 5, current=10) == 12


def test_a_value_target_multiplies_the_ready_pods() -> None:
    assert hpa.value(2.0, 1.0, ready=2, current=2) == 4


def test_silent_pods_count_as_idle_when_the_rest_asks_for_growth() -> None:
    pods = ["a", "b", "c"]
    grown = hpa.per_pod({"a": 10, "b": 10}, 5, ready=pods, unready=[], current=3)
    assert grown == 4
    assert hpa.per_pod({"a": 10, "b": 10, "c": 10}, 5, ready=pods, unready=[], current=3) == 6


def test_starting_pods_count_as_idle_when_the_rest_asks_for_growth() -> None:
    grown = hpa.per_pod({"a": 10, "b": 10}, 5, ready=["a", "b"], unready=["c", "d"], current=4)
    assert grown == 4


def test_a_missing_metric_forbids_shrinking_but_not_growth() -> None:
    assert hpa.combine([None, 3], current=5) == 5
    assert hpa.combine([None, 8], current=5) == 8


def test_shrinking_waits_for_the_highest_of_the_window() -> None:
    stabiliser = hpa.Stabiliser()
    stabiliser.settle(0, 8, current=8, minimum=1, maximum=32)
    assert stabiliser.settle(150, 2, current=8, minimum=1, maximum=32) == 8
    assert stabiliser.settle(315, 2, current=8, minimum=1, maximum=32) == 2


def test_growth_at_most_doubles_or_adds_four() -> None:
    stabiliser = hpa.Stabiliser()
    assert stabiliser.settle(0, 32, current=2, minimum=1, maximum=32) == 6
    assert stabiliser.settle(15, 32, current=6, minimum=1, maximum=32) == 12


def test_a_window_of_the_same_length_up_delays_growth() -> None:
    policy = wva.V1("wva-v1", 0.8)
    hot = {"kv": [0.9, 0.9], "waiting": [9, 9]}
    counts = [policy.decide(seen(now=now, pods=2, samples=hot)) for now in np.arange(0, 301, 15.0)]
    assert counts[0] == 2
    assert counts[-1] == 3


def test_wva_v1_is_frozen_while_a_pod_starts() -> None:
    policy = wva.V1("wva-v1", 0.8, window=0.0)
    hot = {"kv": [0.9, 0.9], "waiting": [9, 9]}
    assert policy.decide(seen(now=0, pods=2, samples=hot)) == 3
    assert policy.decide(seen(now=30, pods=2, starting=1, samples=hot)) == 3
    assert policy.decide(seen(now=60, pods=2, starting=1, samples=hot)) == 3


def test_wva_v1_leaves_saturated_replicas_out_of_its_mean() -> None:
    policy = wva.V1("wva-v1", 0.8, window=0.0)
    mixed = {"kv": [0.95] * 4 + [0.0] * 2, "waiting": [20] * 4 + [0] * 2}
    assert policy.decide(seen(pods=6, samples=mixed)) == 5


def test_the_tolerance_of_the_hpa_latches_wva_v1() -> None:
    policy = wva.V1("wva-v1", 0.8, window=0.0)
    idle = {"kv": [0.0] * 10, "waiting": [0] * 10}
    counts = [policy.decide(seen(now=now, pods=10, samples=idle)) for now in (0, 30, 60, 90)]
    assert counts == [10] * 4


def test_the_old_wva_takes_quiet_completions_for_no_load() -> None:
    policy = wva.Inferno("wva-old", 1.0, parameters=CHAT)
    assert policy.decide(seen(pods=6, samples={"completions": []})) == 6
    assert policy.decide(seen(now=301, pods=6, samples={"completions": []})) == 1


def test_the_unsummed_query_of_the_chart_stops_at_two_replicas() -> None:
    policy = hpas.ProductionStackChart("production-stack", 5)
    assert policy.decide(seen(pods=1, samples={"waiting": [20]})) == 4
    assert policy.decide(seen(now=15, pods=2, samples={"waiting": [50, 50]})) == 2
    repaired = hpas.ProductionStackChartRepaired("repaired", 5)
    assert repaired.decide(seen(pods=2, samples={"waiting": [10, 10]})) == 4


def test_an_empty_result_is_no_load_to_keda() -> None:
    policy = hpas.ProductionStackChart("production-stack", 5)
    policy.decide(seen(pods=6, samples={"waiting": []}))
    assert policy.decide(seen(now=301, pods=6, samples={"waiting": []})) == 1


def test_the_keepalive_blocks_every_step_down() -> None:
    quiet = {"alive": 1, "running": 1, "output": 10, "prompt": 10}
    shipped = hpas.ProductionStackOperator("operator", 5)
    repaired = hpas.ProductionStackOperatorRepaired("repaired", 5)
    for policy, expected in ((shipped, 4), (repaired, 3)):
        policy.decide(seen(now=0, pods=4, samples=quiet))
        assert policy.decide(seen(now=301, pods=4, samples=quiet)) == expected


def test_kaito_divides_by_the_replicas_twice() -> None:
    waiting = {"waiting": [20.0] * 4}
    assert hpas.Kaito("kaito", 10).proposals(seen(pods=4, samples=waiting)) == [2]
    assert hpas.KaitoRepaired("kaito", 10).proposals(seen(pods=4, samples=waiting)) == [8]


def test_ome_ignores_the_present_count() -> None:
    twice = {"sum": 1.4, "count": 10}
    assert hpas.Ome("ome", 0.07).proposals(seen(pods=6, samples=twice)) == [2]
    assert hpas.OmeRepaired("ome", 0.07).proposals(seen(pods=6, samples=twice)) == [12]


def test_aibrix_kpa_halves_an_overloaded_fleet() -> None:
    policy = aibrix.Kpa("kpa", 0.5)
    assert policy.decide(seen(pods=8, samples={"kv": [0.9] * 8})) == 4
    assert aibrix.KpaRepaired("kpa", 0.5).decide(seen(pods=8, samples={"kv": [0.9] * 8})) == 15


def test_aibrix_follows_the_lowest_wish_down() -> None:
    shipped, repaired = aibrix.Apa("apa", 0.5), aibrix.ApaRepaired("apa", 0.5)
    for policy in (shipped, repaired):
        policy.decide(seen(now=0, pods=8, samples={"kv": [0.5] * 8}))
    assert shipped.decide(seen(now=190, pods=8, samples={"kv": [0.2] * 8})) == 4
    assert repaired.decide(seen(now=190, pods=8, samples={"kv": [0.2] * 8})) == 8


def test_an_outage_reads_as_no_load_to_aibrix() -> None:
    policy = aibrix.Apa("apa", 0.5)
    assert policy.decide(seen(pods=8, samples={"kv": None})) == 4


def test_kubeai_goes_down_at_the_fourth_lower_tick() -> None:
    policy = concurrency.KubeAI("kubeai", 10)
    quiet = {"running": 5, "waiting": 0, "held": 0}
    counts = [policy.decide(seen(now=10 * i, pods=3, samples=quiet)) for i in range(4)]
    assert counts == [3, 3, 3, 1]


def test_knative_panics_at_twice_the_ready_pods_and_stays_up() -> None:
    policy = concurrency.Knative("knative", 10)
    for now in range(0, 60, 2):
        policy.decide(seen(now=now, pods=2, samples={"running": 10, "waiting": 0, "held": 0}))
    burst = {"running": 80, "waiting": 0, "held": 0}
    calm = {"running": 5, "waiting": 0, "held": 0}
    for now in (60, 62, 64):
        peak = policy.decide(seen(now=now, pods=2, samples=burst))
    assert peak == 9
    assert policy.decide(seen(now=70, pods=2, samples=calm)) >= peak


def test_the_profile_agrees_with_the_study_of_the_chat_case() -> None:
    work = profile.work(CHAT, prompt=1155, output=211)
    assert work == pytest.approx(0.0529, rel=0.02)
    assert profile.tpot(CHAT, rate=12.3, prompt=1155, output=211) == pytest.approx(0.02, rel=0.03)


def test_a_replica_missed_for_less_than_a_cold_start_is_kept() -> None:
    needed = np.array([2.0] * 4 + [1.0] * 4 + [2.0] * 4 + [1.0] * 20)
    kept = oracle.schedule(needed, z=0.0, minimum=1, maximum=4, keep=120)
    assert kept.counts == (2,) * 12 + (1,) * 20
    dropped = oracle.schedule(needed, z=0.0, minimum=1, maximum=4, keep=30)
    assert dropped.counts == tuple(int(n) for n in needed)


def test_the_oracle_orders_one_cold_start_ahead() -> None:
    plan = oracle.Schedule((1,) * 20 + (3,) * 20)
    assert plan.ordered(150, lead=120) == 1
    assert plan.ordered(185, lead=120) == 3
    assert plan.ordered(500, lead=120) == 3


def test_the_cheapest_schedule_that_the_judge_accepts_is_taken() -> None:
    needed = np.full(10, 4.0)

    def schedules(z: float) -> oracle.Schedule:
        return oracle.schedule(needed, z=z, minimum=1, maximum=32, keep=0)

    def judge(plan: oracle.Schedule) -> float:
        return 1.0 if min(plan.counts) >= 6 else 0.5

    assert oracle.cheapest(judge, schedules, target=0.99).counts == (6,) * 10


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_is_made_by_its_name_and_answers_without_data(name: str) -> None:
    peer = PEERS[name]
    policy = peer.make(name, peer.shipped, CHAT)
    nothing = dict.fromkeys(policy.queries(), None)
    count = policy.decide(seen(pods=3, samples=nothing))
    assert policy.name == name
    assert 1 <= count <= 32
    assert math.isfinite(policy.every)
    assert peer.shipped in peer.sweep or len(peer.sweep) > 3
