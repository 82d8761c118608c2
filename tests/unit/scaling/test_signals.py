"""Signals: what is absent, stale or NaN is Unknown, and never zero."""

import math
from typing import Any

import orjson
import pytest

from slipstream_operator.core import histograms, objectives
from slipstream_operator.core.scaling.metrics import queries, query_results, signals
from slipstream_operator.core.scaling.metrics.query_results import QueryResults
from slipstream_operator.core.scaling.metrics.values import Load, PodLoad, Sample, Unknown
from tests.support import given

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


def _sample(value: float, *, namespace: str = given.NAMESPACE, **labels: str) -> Sample:
    return Sample({"namespace": namespace, "service": given.NAME, **labels}, value)


def _samples(pods: tuple[str, ...] = PODS, **changed: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: [_sample(value, pod=pod) for pod in pods] for name, value in SERIES.items()
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
    assert _found(_samples(arrivals=[_sample(2.5)])).arrivals == 2.5


def test_lengths_are_means_over_the_requests_that_ended() -> None:
    ended = {"output_lengths": [_sample(300.0)], "output_count": [_sample(3.0)]}
    assert _found(_samples(**ended)).output_length == 100.0
    assert _found(_samples(**{**ended, "output_count": [_sample(0.0)]})).output_length is None


def test_a_pod_that_is_new_need_not_report_yet() -> None:
    samples = _samples(pods=("a", "b"))
    found = _found(samples, since=NOW - 10.0)
    assert len(found.pods) == 2
    assert found.complete


def test_a_pod_without_one_series_gets_the_median_and_the_load_is_incomplete() -> None:
    output = [_sample(value, pod=pod) for value, pod in zip((10, 20, 60), "abc", strict=True)]
    found = _found(_samples(output=output))
    assert [pod.output for pod in found.pods] == [10, 20, 60, 20, 20]
    assert not found.complete


def test_a_series_that_no_engine_has_is_none_of_them() -> None:
    found = _found(_samples(steps=[]))
    assert [pod.steps for pod in found.pods] == [0.0] * 5
    assert found.complete


def test_a_negative_rate_is_missing() -> None:
    output = [
        _sample(value, pod=pod) for value, pod in zip((10, -5, 10, 10, 10), PODS, strict=True)
    ]
    found = _found(_samples(output=output))
    assert [pod.output for pod in found.pods] == [10.0] * 5
    assert not found.complete


def test_a_silent_pod_is_filled_in_by_the_median() -> None:
    running = [_sample(value, pod=pod) for value, pod in zip((1, 2, 4, 9), "abcd", strict=True)]
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
    usage = [_sample(value, pod=pod) for value, pod in zip((0.1, 0.95, 0.2), "abc", strict=True)]
    assert _found(_samples(kv=usage)).kv_usage == 0.95


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param(_sample(99.0, pod="gone"), id="a pod that is not ready"),
        pytest.param(_sample(99.0, namespace="other", pod="a"), id="another namespace"),
        pytest.param(Sample({"namespace": "team", "service": "x", "pod": "a"}, 9.0), id="another"),
        pytest.param(Sample({"namespace": "team"}, 9.0), id="without labels"),
    ],
)
def test_series_of_others_do_not_count(extra: Sample) -> None:
    samples = _samples()
    assert _load({**samples, queries.RUNNING: [*samples[queries.RUNNING], extra]}) == _load(samples)


def test_arrivals_are_known_before_an_engine_is_ready() -> None:
    samples = _samples(arrivals=[_sample(4.0)], surge=[_sample(6.0)], cancelled=[_sample(1.0)])
    found = _load(samples, pods=())
    assert isinstance(found, Load)
    assert (found.pods, found.complete) == ((), False)
    assert (found.arrivals, found.surge, found.cancelled) == (4.0, 6.0, 1.0)


UNKNOWN: dict[str, tuple[dict[str, Any], tuple[str, ...], str]] = {
    "no pod is ready": (_samples(), (), "no engine is ready"),
    "an empty answer": (_samples(running=[]), PODS, "0 of 5 ready engines report"),
    "too few report": (_samples(pods=("a", "b")), PODS, "2 of 5 ready engines report"),
    "stale": (
        _samples(age=[_sample(61.0, pod=pod) for pod in PODS]),
        PODS,
        "0 of 5 ready engines report",
    ),
    "no age": (_samples(age=[]), PODS, "0 of 5 ready engines report"),
    "NaN": (
        _samples(running=[_sample(math.nan, pod=pod) for pod in PODS]),
        PODS,
        "0 of 5 ready engines report",
    ),
    "infinite": (
        _samples(waiting=[_sample(math.inf, pod=pod) for pod in PODS]),
        PODS,
        "0 of 5 ready engines report",
    ),
    "a failed query": (_samples(output=Unknown("refused")), PODS, "refused"),
    "nothing was asked": ({}, PODS, "query running has no result"),
}


@pytest.mark.parametrize(("samples", "pods", "reason"), UNKNOWN.values(), ids=UNKNOWN)
def test_without_trustworthy_data_load_is_unknown(
    samples: dict[str, Any], pods: tuple[str, ...], reason: str
) -> None:
    assert _load(samples, pods=pods) == Unknown(reason)


def _buckets(**bounds: float) -> list[Sample]:
    names = {"fast": "0.1", "ok": "0.5", "all": "+Inf"}
    return [_sample(count, le=names[name]) for name, count in bounds.items()]


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


def _cache(blocks: str, size: str) -> Sample:
    return _sample(1.0, num_gpu_blocks=blocks, block_size=size)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ([_cache("1000", "16")], 16000),
        ([_cache("1000", "16"), _cache("500", "16")], 8000),
        ([_cache("None", "16")], None),
        ([], None),
        (Unknown("refused"), None),
        (None, None),
    ],
)
def test_the_kv_capacity_is_that_of_the_smallest_engine(
    result: list[Sample] | Unknown | None, expected: int | None
) -> None:
    samples = {} if result is None else {queries.KV_TOKENS: result}
    assert signals.kv_capacity(query_results.alone(samples)) == expected


def _drafted(value: float, revision: str = "new") -> Sample:
    labels = {"namespace": given.NAMESPACE, "service": given.NAME, "revision": revision}
    return Sample(labels, value)


@pytest.mark.parametrize(
    ("drafted", "accepted", "expected"),
    [
        ([_drafted(200.0)], [_drafted(150.0)], 0.75),
        ([_drafted(200.0)], [_drafted(0.0)], 0.0),
        ([_drafted(200.0), _drafted(900.0, "old")], [_drafted(150.0), _drafted(1.0, "old")], 0.75),
        ([_drafted(0.0)], [_drafted(0.0)], None),
        ([_drafted(math.nan)], [_drafted(1.0)], None),
        ([_drafted(200.0)], [], None),
        ([], [], None),
        (Unknown("refused"), [_drafted(1.0)], None),
    ],
)
def test_draft_tokens_are_known_only_if_this_revision_made_some(
    drafted: Any, accepted: Any, expected: float | None
) -> None:
    samples = given.grouped({queries.DRAFTED: drafted, queries.ACCEPTED: accepted})
    found = signals.draft_tokens(samples.of(given.KEY), revision="new")
    assert (found and found.acceptance) == expected


def _gain(value: float, *, revision: str = "new") -> Sample:
    labels = {"namespace": given.NAMESPACE, "service": given.NAME}
    return Sample({**labels, "revision": revision}, value)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ([_gain(1.5), _gain(1.2, revision="old")], 1.5),
        ([_gain(1.5, revision="old")], None),
        ([_gain(math.nan)], None),
        ([], None),
        (Unknown("refused"), None),
    ],
)
def test_a_gain_is_known_only_if_this_revision_has_one(result: Any, expected: float | None) -> None:
    samples = given.grouped({queries.GAIN: result}).of(given.KEY)
    assert signals.gain(samples, revision="new") == expected


def test_every_query_groups_by_service_so_that_their_number_is_constant() -> None:
    asked = {
        **queries.every_tick(window=60.0),
        **queries.every_scrape(window=60.0),
        **queries.every_minute(),
    }
    assert all("by (namespace, service" in str(query) for query in asked.values())


def test_an_adapter_is_loaded_if_every_engine_has_it() -> None:
    def sample(name: str, value: float) -> Sample:
        labels = {"namespace": given.NAMESPACE, "service": given.NAME, "adapter": name}
        return Sample(labels, value)

    samples = {queries.ADAPTERS: [sample("sql", 1.0), sample("chat", 0.0)]}
    assert signals.adapters(query_results.alone(samples)) == {"sql": True, "chat": False}
    assert signals.adapters(query_results.alone({queries.ADAPTERS: Unknown("no answer")})) == {}
    assert signals.adapters(query_results.alone({})) == {}


def test_a_query_that_fails_halfway_is_unknown() -> None:
    found = given.grouped(_samples())
    found.take(queries.RUNNING, Unknown("broken off"))
    own = found.of(given.KEY)
    pods = dict.fromkeys(PODS, LONG_AGO)
    assert signals.load(own, pods=pods, now=NOW, max_age=60.0) == Unknown("broken off")


def test_values_of_earlier_rounds_are_kept() -> None:
    before = given.grouped({"output_lengths": [_sample(300.0)], "output_count": [_sample(3.0)]})
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


def _capacity(*reported: float, **labels: str) -> int | None:
    found = [_sample(value) for value in reported]
    found += [_sample(1.0, **labels)] if labels else []
    return signals.kv_capacity(given.grouped({queries.KV_TOKENS: found}).of(given.KEY))


@pytest.mark.parametrize("nothing", [0.0, 0.5, -1.0, math.nan, math.inf, 1e16])
def test_a_capacity_that_no_engine_has_is_unknown_and_lowers_none(nothing: float) -> None:
    """A KV cache of 0 tokens would set no limit to requests, and a service would get too few replicas."""
    assert _capacity(nothing) is None
    assert _capacity(nothing, 5_000.0) == 5_000
    sequences = given.grouped({queries.SEQUENCES: [_sample(nothing)]}).of(given.KEY)
    assert signals.max_sequences(sequences, revision="a") is None


def test_an_old_engine_without_a_capacity_in_tokens_leaves_those_of_new_ones() -> None:
    assert _capacity(9_000.0, 5_000.0, num_gpu_blocks="10", block_size="16") == 5_000


@pytest.mark.parametrize("blocks", ["²", "9" * 5_000, "", "-5", "1e3", "None", "٣"])
def test_blocks_that_are_no_number_are_unknown(blocks: str) -> None:
    assert _capacity(num_gpu_blocks=blocks, block_size="16") is None


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


@pytest.mark.parametrize("value", [-1.0, 1e16, 1e308, math.inf, math.nan])
def test_a_value_that_no_engine_has_is_missing(value: float) -> None:
    assert isinstance(_load(_samples(running=[_sample(value, pod=pod) for pod in PODS])), Unknown)
