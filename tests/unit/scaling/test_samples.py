"""Pods can export any number, label and time, and anyone who may edit ConfigMaps can save any state.

Bad values are dropped one by one. No decision fails on them, and other services get the same results.
"""

import copy
import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from slipstream_operator.adapters import vectors
from slipstream_operator.api import units
from slipstream_operator.core import revisions, status, tick
from slipstream_operator.core.observed import Key
from slipstream_operator.core.scaling import persistence
from slipstream_operator.core.scaling.metrics import queries, samples
from slipstream_operator.core.scaling.metrics.query_results import QueryResults
from slipstream_operator.core.status.outcome import Outcome
from slipstream_operator.core.tick import Moment, Scaling, Service
from tests.support import given, scalers

SPEC = {**scalers.SPEC, "slo": {"ttft": {"p95": "500ms"}, "tpot": {"p95": "50ms"}}}
NOW = units.moment("2026-01-02T00:00:00Z")
OTHER = Key(given.NAMESPACE, "other")
NUMBERS = st.floats() | st.sampled_from([0.0, 1e-12, 1e7, 1e15, 5e-324, 1e300, -1.0, 0.5, 100.0])
LABELS = st.text(max_size=8) | st.sampled_from(
    ["\u00b2", "9" * 5000, "1e400", "NaN", "+Inf", "0.5", "1", "1_0", "0." + "5" * 10_000]
)
NAMES = (
    *queries.PER_POD, *queries.TOTALS, "ttft:now", "ttft:5m", "ttft:1h", "tpot:now", "tpot:5m",
    queries.DRAFTED, queries.ACCEPTED, queries.GAIN, queries.KV_TOKENS, queries.SEQUENCES, queries.ADAPTERS,
)  # fmt: skip
PODS = ("a", "b")


def _series(name: str, value: float, key: Key, **labels: str) -> tuple[bytes, float]:
    found = {"namespace": key.namespace, "service": key.name, **labels}
    return json.dumps(found, separators=(",", ":")).encode(), value


@st.composite
def _pages(draw: st.DrawFn) -> dict[str, list[tuple[bytes, float]]]:
    """One round of queries in which every value and label comes from pods of `given.KEY`."""
    found = {}
    for name in NAMES:
        if name in queries.PER_POD:
            usual = 3.0 if name == queries.AGE else 0.5
            values = st.just(usual) | NUMBERS
            found[name] = [_series(name, draw(values), given.KEY, pod=pod) for pod in PODS]
        else:
            label = {queries.KV_TOKENS: "num_gpu_blocks", queries.ADAPTERS: "adapter"}.get(
                name, "le"
            )
            extra = {"block_size": draw(LABELS), "revision": _service(()).rollout.active}
            found[name] = [
                _series(name, value, given.KEY, **extra, **{label: text})
                for text, value in draw(st.lists(st.tuples(LABELS, NUMBERS), max_size=4))
            ]
    return found


def _service(pods: Any) -> Service:
    resolved, observed = given.resolved(SPEC), given.observed(SPEC)
    rollout = revisions.roll_out(observed, resolved, replicas=2, now=given.MOMENT)
    return Service(given.KEY, resolved, rollout, tuple(pods))


SERVICE = _service(())


def _pods(*ready_since: str | None) -> Service:
    return _service(
        dataclasses.replace(given.pod(SERVICE.rollout.active, name=name), ready_since=since)
        for name, since in zip(PODS, ready_since, strict=True)
    )


def _decide(page: dict[str, Any], scaling: Scaling, service: Service, *, ticks: int = 3) -> Scaling:
    for number in range(ticks):
        results = QueryResults()
        for name, rows in page.items():
            results.take(name, rows)
        moment = Moment(NOW + 31 * number, 50.0 + 31 * number)
        scaling, _ = tick.tick(results.of(given.KEY), scaling, service, moment=moment)
        _report(scaling, service)
    return scaling


def _report(scaling: Scaling, service: Service) -> None:
    """Write a status and the state, and check that both can be read."""
    outcome = Outcome(
        resolved=service.resolved,
        rollout=service.rollout,
        decision=scaling.decision,
        state=scaling.state,
        measured=scaling.measured,
    )
    written = status.summarise(given.observed(SPEC), outcome, now=given.CREATED)
    json.dumps(written, allow_nan=False)
    assert scaling.state is not None and scaling.decision is not None
    assert 0 <= scaling.decision.desired <= service.resolved.bounds.maximum
    assert persistence.load(persistence.dump(scaling.state)) is not None


READY = "2026-01-01T00:01:00Z"


@settings(max_examples=60, deadline=None)
@drawn(page=_pages())
def test_no_page_of_a_pod_makes_a_decision_fail(page: dict[str, Any]) -> None:
    _decide(page, Scaling(state=given.state(2)), _pods(READY, READY))


@settings(max_examples=60, deadline=None)
@drawn(page=_pages())
def test_no_page_of_a_pod_changes_results_of_another_service(page: dict[str, Any]) -> None:
    alone, together = QueryResults(), QueryResults()
    for name in NAMES:
        labels = {"pod": "x"} if name in queries.PER_POD else {"le": "0.5"}
        other = [_series(name, 0.5, OTHER, **labels), _series(name, 0.25, OTHER, **labels)]
        alone.take(name, copy.copy(other))
        together.take(name, [*page[name], other[0], (b"\xff{", 1.0), (b"[1]", 1.0), other[1]])
    left, right = alone.of(OTHER), together.of(OTHER)
    assert (left.pods, left.totals, left.histograms, left.others) == (
        right.pods, right.totals, right.histograms, right.others,
    )  # fmt: skip
    assert not right.failed


@settings(max_examples=150, deadline=None)
@drawn(data=st.data())
def test_a_state_text_is_refused_or_can_be_decided_on(data: st.DataObject) -> None:
    values = st.none() | st.booleans() | NUMBERS | st.integers() | LABELS | st.just([1e300] * 3)
    kept = json.loads(persistence.dump(given.state(2, concurrency=3.0)))
    for _ in range(data.draw(st.integers(1, 2))):
        part, key = kept, data.draw(st.sampled_from(sorted(kept)))
        while isinstance(part[key], dict) and part[key]:
            part, key = part[key], data.draw(st.sampled_from(sorted(part[key])))
        part[key] = data.draw(values)
    state = persistence.load(json.dumps(kept), now=NOW)
    if state is not None:
        page = {
            name: [_series(name, 0.5, given.KEY, pod=pod) for pod in PODS]
            for name in queries.PER_POD
        }
        _decide(page, Scaling(state=state), _pods(READY, READY))


@settings(max_examples=100, deadline=None)
@drawn(text=st.text(max_size=50))
def test_any_text_is_no_state(text: str) -> None:
    assert persistence.load(text) is None


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", None])
def test_a_time_of_another_clock_teaches_no_cold_start(time: str | None) -> None:
    """The horizon would be thousands of years, and the saved state would keep it."""
    page = {
        name: [_series(name, 0.5, given.KEY, pod=pod) for pod in PODS] for name in queries.PER_POD
    }
    before = given.state(2, coming=PODS)
    found = _decide(page, Scaling(state=before), _pods(time, READY), ticks=1)
    usual = _decide(page, Scaling(state=before), _pods(READY, READY), ticks=1)
    assert found.state is not None and usual.state is not None
    assert usual.state.cold.median <= found.state.cold.median <= 3 * usual.state.cold.median


def test_a_bound_that_would_lengthen_the_queries_of_all_is_dropped() -> None:
    assert math.isnan(samples.bound(b"0." + b"5" * 10_000))
    assert math.isnan(samples.bound(b"1_0"))
    assert samples.bound(b"1e-05") == 1e-5
    assert samples.bound(b"+Inf") == math.inf


def test_odd_buckets_of_many_services_add_few_bounds_to_the_queries() -> None:
    results = QueryResults()
    rows = [
        _series("ttft:1h", 1.0, Key("team", f"s{number}"), le=f"0.{number:04d}1")
        for number in range(500)
    ]
    results.take("ttft:1h", rows)
    assert len(results.near("ttft:1h", [0.5])) <= 16


def test_dropped_values_are_counted_and_nan_is_not() -> None:
    results = QueryResults()
    rows = [_series("kv", value, given.KEY, pod="a") for value in (math.nan, 7.0, 0.5)]
    results.take("kv", rows)
    assert results.dropped == {"kv": 1}
    assert results.of(given.KEY).dropped == {"kv"}
    assert results.of(OTHER).dropped == set()


def test_a_native_histogram_of_one_pod_leaves_the_other_series() -> None:
    text = (
        b'{"status":"success","data":{"resultType":"vector","result":['
        b'{"metric":{"pod":"a"},"value":[1,"2"]},'
        b'{"metric":{"pod":"b"},"histogram":[1,{"count":"3","sum":"4"}]},'
        b'{"metric":{"pod":"c"},"value":[1,"5"]}]}}'
    )
    found = [one for part in vectors.read([text]) for one in part]
    assert found == [(b'{"pod":"a"}', 2.0), (b'{"pod":"c"}', 5.0)]
