"""Readings of latency objectives from the buckets of histograms."""

import math
from typing import Any

import orjson
import pytest

from slipstream_operator.core import histograms, objectives
from slipstream_operator.core.scaling.metrics import queries, query_results, signals
from slipstream_operator.core.scaling.metrics.query_results import QueryResults
from slipstream_operator.core.scaling.metrics.values import Sample, Unknown
from tests.support import given
from tests.support.samples import sample


def _buckets(**bounds: float) -> list[Sample]:
    names = {"fast": "0.1", "ok": "0.5", "all": "+Inf"}
    return [sample(count, le=names[name]) for name, count in bounds.items()]


TTFT = objectives.Objectives(latency=(given.objective(),))

LATENCY: dict[str, Any] = {
    "ttft:now": _buckets(fast=50, ok=100, all=100),
    "ttft:5m": _buckets(fast=0, ok=90, all=100),
    "ttft:1h": [],
    "ttft:1d": Unknown("refused"),
}


def test_a_reading_holds_the_measured_latency_and_the_attainment() -> None:
    (found,) = signals.readings(query_results.alone(LATENCY), TTFT)  # type: ignore[misc]
    assert found.current == pytest.approx(0.1 + 0.4 * 45 / 50)
    assert found.pressure == pytest.approx(found.current / 0.5)
    assert found.requests == 100.0
    assert found.attainment == {"5m": pytest.approx(0.9), "1h": None, "1d": None}


def test_without_traffic_there_is_a_reading_without_a_value() -> None:
    (found,) = signals.readings(query_results.alone({**LATENCY, "ttft:now": []}), TTFT)  # type: ignore[misc]
    assert (found.current, found.pressure, found.requests) == (None, None, 0.0)


@pytest.mark.parametrize(
    ("samples", "reason"),
    [({**LATENCY, "ttft:now": Unknown("refused")}, "refused"), ({}, "not queried")],
)
def test_readings_are_unknown_if_prometheus_does_not_answer(
    samples: dict[str, Any], reason: str
) -> None:
    assert signals.readings(query_results.alone(samples), TTFT) == Unknown(reason)


def test_without_objectives_there_is_nothing_to_read() -> None:
    assert signals.readings(query_results.alone({}), objectives.Objectives()) == ()


def test_the_bound_of_a_bucket_may_stand_anywhere_among_its_labels() -> None:
    found = QueryResults()
    name = queries.latency("ttft", "now")
    for labels in (
        b'{"le":"0.5","namespace":"team","service":"chat"}',
        b'{"namespace":"team","le":"1.0","service":"chat"}',
        b'{"namespace":"team","service":"chat","le":"+Inf"}',
    ):
        found.take(name, [(labels, 1.0)])
    assert found.of(given.KEY).histograms[name].bounds == (0.5, 1.0, math.inf)


@pytest.mark.parametrize("target", [0.05, 0.1, 0.3, 0.5, 2.0])
def test_the_buckets_around_a_target_are_enough_to_tell_the_share_within_it(target: float) -> None:
    scale = (0.1, 0.25, 0.5, 1.0, math.inf)
    whole = list(zip(scale, (3.0, 20.0, 50.0, 90.0, 100.0), strict=True))
    wanted = queries.near([scale, (0.4, math.inf)], [target])
    few = [(bound, count) for bound, count in whole if bound in wanted]
    assert len(few) <= 4
    assert histograms.linear_attainment(histograms.from_buckets(few), target) == pytest.approx(
        histograms.linear_attainment(histograms.from_buckets(whole), target)
    )


def test_an_answer_that_broke_off_does_not_say_which_buckets_there_are() -> None:
    name = queries.latency("ttft", "now")
    found = QueryResults()
    found.take(name, [(b'{"le":"0.5","namespace":"n","service":"s"}', 1.0)])
    assert found.near(name, [0.3]) == ("0.5",)
    found.take(name, Unknown("it breaks off"))
    assert found.near(name, [0.3]) == ()


def _histogram(*buckets: tuple[str, float]) -> histograms.Histogram:
    found = QueryResults()
    labels = {"namespace": given.NAMESPACE, "service": given.NAME}
    found.take(
        "ttft:now",
        [(orjson.dumps({**labels, "le": le} if le else labels), count) for le, count in buckets],
    )
    return found.of(given.KEY).histograms["ttft:now"]


@pytest.mark.parametrize("bound", ["abc", "NaN", "", "0x1"])
def test_a_bucket_without_a_bound_is_dropped_and_the_others_count(bound: str) -> None:
    whole = (("0.5", 3.0), ("+Inf", 9.0))
    assert _histogram(*whole, (bound, 90.0)) == _histogram(*whole)


def test_engines_with_other_buckets_make_latencies_look_no_lower() -> None:
    """A rollout: ten requests of 8 ms each at an old engine, whose buckets begin at 10 ms, and at a new one."""
    old = {"0.01": 10.0, "0.025": 10.0, "+Inf": 10.0}
    new = {"0.0025": 0.0, "0.005": 0.0, "0.0075": 0.0, "0.01": 10.0, "+Inf": 10.0}
    summed = {le: old.get(le, 0.0) + new.get(le, 0.0) for le in {**old, **new}}
    mixed = _histogram(*summed.items())
    alone = _histogram(*new.items())
    for share in (0.5, 0.9, 0.99):
        assert (histograms.linear_quantile(mixed, share) or 0) >= (
            histograms.linear_quantile(alone, share) or 0
        )
    for target in (0.006, 0.008, 0.01, 0.02):
        assert (histograms.linear_attainment(mixed, target) or 0) <= (
            histograms.linear_attainment(alone, target) or 0
        )
