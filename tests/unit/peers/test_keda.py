"""The peers that are triggers of KEDA: production-stack, KAITO and OME, with the defects that they ship."""

from collections.abc import Mapping

import pytest

from slipstream_operator.core.scaling.metrics.values import Sample
from slipstream_simulator.peers import kaito, ome, production_stack
from slipstream_simulator.peers.catalogue import PEERS
from tests.support import views
from tests.support.views import ENGINE


def test_the_charts_query_fails_at_two_replicas() -> None:
    policy = production_stack.chart(ENGINE, 5.0)
    assert policy.decide(views.view(1, {"waiting": views.by_pod(40)})) == 5
    assert policy.decide(views.view(5, {"waiting": views.by_pod(*[40] * 5)}, now=15)) == 5


def test_the_repaired_charts_query_is_one_series() -> None:
    policy = production_stack.chart_repaired(ENGINE, 5.0)
    assert "sum by ()" in str(policy.queries()["waiting"])
    assert policy.decide(views.view(5, {"waiting": views.number(50)})) == 10


def _light(now: float, replicas: int) -> Mapping[str, views.Result]:
    return {
        "keepalive": views.number(1),
        "running": views.number(2),
        "generated": views.number(60),
        "read": views.number(80),
    }


def test_the_operators_keepalive_forbids_the_way_down() -> None:
    policy = production_stack.operator(ENGINE, 1.0)
    assert set(views.driven(policy, _light, replicas=8, until=1200)) == {8}


def test_the_repaired_keepalive_still_wakes_from_zero() -> None:
    policy = production_stack.operator_repaired(ENGINE, 1.0)
    asleep = {**_light(0, 0), "running": [], "generated": [], "read": []}
    assert policy.decide(views.view(0, {**asleep, "keepalive": views.number(0)}, minimum=0)) == 0
    assert policy.decide(views.view(0, asleep, now=30, minimum=0)) == 1


@pytest.mark.parametrize("name", ["production-stack-chart", "kaito", "ome-tpot"])
def test_what_no_trigger_could_wake_stays_at_one(name: str) -> None:
    quiet: Mapping[str, views.Result] = {query: [] for query in PEERS[name].make(ENGINE).queries()}
    for replicas in (0, 1):
        policy = PEERS[name].make(ENGINE)
        counts = views.driven(policy, lambda *_: quiet, replicas=replicas, until=3600, minimum=0)
        assert set(counts) == {1}


def test_without_the_keepalive_it_goes_down_one_pod_a_minute() -> None:
    policy = production_stack.operator_repaired(ENGINE, 1.0)
    counts = views.driven(policy, _light, replicas=8, until=600)
    assert counts[19:29] == [8, 7, 7, 7, 7, 6, 6, 6, 6, 5]


def test_the_operator_asks_for_a_pod_for_each_hundred_tokens() -> None:
    policy = production_stack.operator_repaired(ENGINE, 1.0)
    samples = {**_light(0, 0), "generated": views.number(2400)}
    counts = views.driven(policy, lambda *_: samples, replicas=2, until=3600)
    assert counts[-1] == 22  # of 24, which is within the tolerance
    assert counts[:5] == [3, 3, 3, 3, 4]


def test_kaito_divides_by_the_pods_twice() -> None:
    policy = kaito.shipped(ENGINE, 10.0)
    samples = {"waiting": views.by_pod(20, 20, 20, 20)}
    counts = views.driven(policy, lambda *_: samples, replicas=4, until=1000)
    assert counts[0] == 4
    assert counts[-1] == 2  # of 80 requests that wait


def test_kaito_repaired_adds_a_pod_in_five_minutes() -> None:
    policy = kaito.repaired(ENGINE, 10.0)

    def waiting(now: float, replicas: int) -> Mapping[str, views.Result]:
        return {"waiting": views.by_pod(*[20] * replicas)}

    counts = views.driven(policy, waiting, replicas=4, until=675)
    assert [counts.index(5) * 15, counts.index(6) * 15] == [60, 360]


@pytest.mark.parametrize(("reported", "total"), [(12.0, 24.0), (4.0, 38.0)])
def test_kaito_fills_in_silent_pods_against_the_direction(reported: float, total: float) -> None:
    policy = kaito.repaired(ENGINE, 10.0)
    trigger = policy.triggers[0]
    look = views.view(4, {"waiting": views.by_pod(reported, reported)})
    assert trigger.read(look) == total


def _buckets() -> Mapping[str, views.Result]:
    """All requests between 100 ms and 180 ms for a token: the median is 140 ms."""
    bounds = {"0.1": 0.0, "0.18": 100.0, "+Inf": 100.0}
    return {"buckets": [Sample({"le": bound}, count) for bound, count in bounds.items()]}


def test_ome_takes_the_ratio_of_latency_for_the_count() -> None:
    policy = ome.shipped(ENGINE, 0.07)
    counts = views.driven(policy, lambda *_: _buckets(), replicas=6, until=315)
    assert counts[-1] == 2  # at twice the target


def test_ome_repaired_multiplies_by_the_ratio_of_latency() -> None:
    assert ome.repaired(ENGINE, 0.07).decide(views.view(6, _buckets())) == 12
