"""Signals: what is absent, stale or NaN is Unknown, and never zero."""

import math
from typing import Any

import pytest

from slipstream_operator.core.scaling.metrics import queries, signals
from slipstream_operator.core.scaling.metrics.values import Load, PodLoad, Sample, Unknown
from tests.support import given
from tests.support.samples import sample

PODS = ("a", "b", "c", "d", "e")

SERIES = {
    queries.RUNNING: 2.0,
    queries.WAITING: 1.0,
    queries.KV_USAGE: 0.5,
    queries.AGE: 3.0,
    queries.RUNNING_MEAN: 2.5,
    queries.WAITING_MEAN: 1.5,
    queries.KV_MEAN: 0.4,
    queries.OUTPUT: 100.0,
    queries.PROMPT: 300.0,
    queries.STEPS: 50.0,
    queries.ITL_SUM: 2.0,
    queries.ITL_COUNT: 99.0,
    queries.STARTED: 0.8,
    queries.FINISHED: 0.7,
    queries.REJECTED: 0.1,
    queries.PREEMPTED: 0.2,
}

NOW, LONG_AGO = 1000.0, 0.0


def _samples(pods: tuple[str, ...] = PODS, **changed: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: [sample(value, pod=pod) for pod in pods] for name, value in SERIES.items()
    }
    return {**found, **changed}


def _load(
    samples: dict[str, Any], *, pods: tuple[str, ...] = PODS, since: float = LONG_AGO
) -> Load | Unknown:
    own = given.grouped(samples).of(given.KEY)
    return signals.load(own, pods=dict.fromkeys(pods, since), now=NOW, max_age=60.0)


def _found(samples: dict[str, Any], **fields: Any) -> Load:
    found = _load(samples, **fields)
    assert isinstance(found, Load)
    return found


def test_load_is_the_reports_of_the_ready_pods() -> None:
    found = _found(_samples())
    assert found.pods == (
        PodLoad(
            running=2.0,
            waiting=1.0,
            kv=0.5,
            running_mean=2.5,
            waiting_mean=1.5,
            kv_mean=0.4,
            output=100.0,
            prompt=300.0,
            steps=50.0,
            itl_sum=2.0,
            itl_count=99.0,
            started=0.8,
            finished=0.7,
            rejected=0.1,
            preempted=0.2,
        ),
    ) * len(PODS)
    assert found.complete
    assert (found.in_flight, found.waiting, found.kv_usage) == (15.0, 5.0, 0.5)
    assert found.tokens_per_second == 500.0


def test_values_of_the_router_are_absent_without_one() -> None:
    assert _found(_samples()).arrivals is None
    assert _found(_samples(arrivals=[sample(2.5)])).arrivals == 2.5


def test_lengths_are_means_over_the_requests_that_ended() -> None:
    ended = {"output_lengths": [sample(300.0)], "output_count": [sample(3.0)]}
    assert _found(_samples(**ended)).output_length == 100.0
    assert _found(_samples(**{**ended, "output_count": [sample(0.0)]})).output_length is None


def test_a_pod_that_is_new_need_not_report_yet() -> None:
    samples = _samples(pods=("a", "b"))
    found = _found(samples, since=NOW - 10.0)
    assert len(found.pods) == 2
    assert found.complete


def test_a_pod_without_one_series_gets_the_median_and_the_load_is_incomplete() -> None:
    output = [sample(value, pod=pod) for value, pod in zip((10, 20, 60), "abc", strict=True)]
    found = _found(_samples(output=output))
    assert [pod.output for pod in found.pods] == [10, 20, 60, 20, 20]
    assert not found.complete


def test_a_series_that_no_engine_has_is_none_of_them() -> None:
    found = _found(_samples(steps=[]))
    assert [pod.steps for pod in found.pods] == [0.0] * 5
    assert found.complete


def test_a_negative_rate_is_missing() -> None:
    output = [sample(value, pod=pod) for value, pod in zip((10, -5, 10, 10, 10), PODS, strict=True)]
    found = _found(_samples(output=output))
    assert [pod.output for pod in found.pods] == [10.0] * 5
    assert not found.complete


def test_a_silent_pod_is_filled_in_by_the_median() -> None:
    running = [sample(value, pod=pod) for value, pod in zip((1, 2, 4, 9), "abcd", strict=True)]
    found = _found(_samples(running=running))
    assert found.in_flight == (1 + 2 + 4 + 9) + 3 + 5 * 1
    assert found.complete  # 4 of 5 are enough


def test_with_less_than_four_fifths_of_the_pods_the_load_is_incomplete() -> None:
    found = _found(_samples(pods=("a", "b", "c")))
    assert found.in_flight == 15.0
    assert not found.complete


def test_a_new_pod_does_not_make_up_for_one_that_is_silent() -> None:
    own = given.grouped(_samples(pods=("a", "b", "c", "new"))).of(given.KEY)
    pods = {**dict.fromkeys("abcd", LONG_AGO), "new": NOW - 30.0}
    found = signals.load(own, pods=pods, now=NOW, max_age=60.0)
    assert isinstance(found, Load)
    assert not found.complete


def test_the_fullest_kv_cache_counts() -> None:
    usage = [sample(value, pod=pod) for value, pod in zip((0.1, 0.95, 0.2), "abc", strict=True)]
    assert _found(_samples(kv=usage)).kv_usage == 0.95


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param(sample(99.0, pod="gone"), id="a pod that is not ready"),
        pytest.param(sample(99.0, namespace="other", pod="a"), id="another namespace"),
        pytest.param(Sample({"namespace": "team", "service": "x", "pod": "a"}, 9.0), id="another"),
        pytest.param(Sample({"namespace": "team"}, 9.0), id="without labels"),
    ],
)
def test_series_of_others_do_not_count(extra: Sample) -> None:
    samples = _samples()
    assert _load({**samples, queries.RUNNING: [*samples[queries.RUNNING], extra]}) == _load(samples)


def test_arrivals_are_known_before_an_engine_is_ready() -> None:
    samples = _samples(arrivals=[sample(4.0)], surge=[sample(6.0)], cancelled=[sample(1.0)])
    found = _load(samples, pods=())
    assert isinstance(found, Load)
    assert (found.pods, found.complete) == ((), False)
    assert (found.arrivals, found.surge, found.cancelled) == (4.0, 6.0, 1.0)


UNKNOWN: dict[str, tuple[dict[str, Any], tuple[str, ...], str]] = {
    "no pod is ready": (_samples(), (), "no engine is ready"),
    "an empty answer": (
        _samples(running=[]),
        PODS,
        "0 of 5 ready engines report. Check that Prometheus scrapes them",
    ),
    "too few report": (_samples(pods=("a", "b")), PODS, "2 of 5 ready engines report"),
    "stale": (
        _samples(age=[sample(61.0, pod=pod) for pod in PODS]),
        PODS,
        "0 of 5 ready engines report. Check that Prometheus scrapes them",
    ),
    "no age": (
        _samples(age=[]),
        PODS,
        "0 of 5 ready engines report. Check that Prometheus scrapes them",
    ),
    "NaN": (
        _samples(running=[sample(math.nan, pod=pod) for pod in PODS]),
        PODS,
        "0 of 5 ready engines report. Check that Prometheus scrapes them",
    ),
    "infinite": (
        _samples(waiting=[sample(math.inf, pod=pod) for pod in PODS]),
        PODS,
        "0 of 5 ready engines report. Values out of range were dropped (waiting)",
    ),
    "a failed query": (_samples(output=Unknown("refused")), PODS, "refused"),
    "nothing was asked": ({}, PODS, "query running has no result"),
}


@pytest.mark.parametrize(("samples", "pods", "reason"), UNKNOWN.values(), ids=UNKNOWN)
def test_without_trustworthy_data_load_is_unknown(
    samples: dict[str, Any], pods: tuple[str, ...], reason: str
) -> None:
    assert _load(samples, pods=pods) == Unknown(reason)


def test_every_query_groups_by_service_so_that_their_number_is_constant() -> None:
    asked = {
        **queries.every_tick(window=60.0),
        **queries.every_scrape(window=60.0),
        **queries.every_minute(),
    }
    assert all("by (namespace, service" in str(query) for query in asked.values())


def test_a_query_that_fails_halfway_is_unknown() -> None:
    found = given.grouped(_samples())
    found.take(queries.RUNNING, Unknown("broken off"))
    own = found.of(given.KEY)
    pods = dict.fromkeys(PODS, LONG_AGO)
    assert signals.load(own, pods=pods, now=NOW, max_age=60.0) == Unknown("broken off")


def test_values_of_earlier_rounds_are_kept() -> None:
    before = given.grouped({"output_lengths": [sample(300.0)], "output_count": [sample(3.0)]})
    after = given.grouped(_samples())
    after.keep(before.totals(queries.LENGTHS))
    found = signals.load(
        after.of(given.KEY), pods=dict.fromkeys(PODS, LONG_AGO), now=NOW, max_age=60.0
    )
    assert isinstance(found, Load)
    assert found.output_length == 100.0


def test_a_pod_is_the_same_however_its_labels_are_written() -> None:
    found = given.grouped(_samples())
    running = b'{"service":"chat","pod":"\\u0061","namespace":"team"}'
    found.take(queries.RUNNING, [(running, 7.0)])
    row = found.of(given.KEY).pods["a"]
    assert (row[0], row[1]) == (7.0, SERIES[queries.WAITING])


@pytest.mark.parametrize("value", [-1.0, 1e16, 1e308, math.inf, math.nan])
def test_a_value_that_no_engine_has_is_missing(value: float) -> None:
    assert isinstance(_load(_samples(running=[sample(value, pod=pod) for pod in PODS])), Unknown)
