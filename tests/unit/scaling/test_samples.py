"""Pods can export any number, label and time, and anyone who may edit ConfigMaps can save any state.

Bad values are dropped one by one. No decision fails on them, and other services get the same results.
"""

import copy
import json
import math
from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from slipstream_operator.adapters import vectors
from slipstream_operator.core.observed import Key
from slipstream_operator.core.scaling import persistence
from slipstream_operator.core.scaling.metrics import queries, samples
from slipstream_operator.core.scaling.metrics.query_results import QueryResults
from slipstream_operator.core.tick import Scaling
from tests.support import given, ticks

NUMBERS = st.floats() | st.sampled_from([0.0, 1e-12, 1e7, 1e15, 5e-324, 1e300, -1.0, 0.5, 100.0])
LABELS = st.text(max_size=8) | st.sampled_from(
    ["\u00b2", "9" * 5000, "1e400", "NaN", "+Inf", "0.5", "1", "1_0", "0." + "5" * 10_000]
)


@st.composite
def _pages(draw: st.DrawFn) -> dict[str, list[tuple[bytes, float]]]:
    """One round of queries in which every value and label comes from pods of `given.KEY`."""
    found = {}
    for name in ticks.NAMES:
        if name in queries.PER_POD:
            usual = 3.0 if name == queries.AGE else 0.5
            values = st.just(usual) | NUMBERS
            found[name] = [ticks.series(draw(values), given.KEY, pod=pod) for pod in ticks.PODS]
        else:
            label = {queries.KV_TOKENS: "num_gpu_blocks", queries.ADAPTERS: "adapter"}.get(
                name, "le"
            )
            extra = {"block_size": draw(LABELS), "revision": ticks.REVISION}
            found[name] = [
                ticks.series(value, given.KEY, **extra, **{label: text})
                for text, value in draw(st.lists(st.tuples(LABELS, NUMBERS), max_size=4))
            ]
    return found


@settings(max_examples=60, deadline=None)
@drawn(page=_pages())
def test_no_page_of_a_pod_makes_a_decision_fail(page: dict[str, Any]) -> None:
    ticks.decide(page, Scaling(state=given.state(2)), ticks.service(ticks.READY, ticks.READY))


@settings(max_examples=60, deadline=None)
@drawn(page=_pages())
def test_no_page_of_a_pod_changes_results_of_another_service(page: dict[str, Any]) -> None:
    alone, together = QueryResults(), QueryResults()
    for name in ticks.NAMES:
        labels = {"pod": "x"} if name in queries.PER_POD else {"le": "0.5"}
        other = [
            ticks.series(0.5, ticks.OTHER, **labels),
            ticks.series(0.25, ticks.OTHER, **labels),
        ]
        alone.take(name, copy.copy(other))
        together.take(name, [*page[name], other[0], (b"\xff{", 1.0), (b"[1]", 1.0), other[1]])
    left, right = alone.of(ticks.OTHER), together.of(ticks.OTHER)
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
    state = persistence.load(json.dumps(kept), now=ticks.NOW)
    if state is not None:
        page = {
            name: [ticks.series(0.5, given.KEY, pod=pod) for pod in ticks.PODS]
            for name in queries.PER_POD
        }
        ticks.decide(page, Scaling(state=state), ticks.service(ticks.READY, ticks.READY))


@settings(max_examples=100, deadline=None)
@drawn(text=st.text(max_size=50))
def test_any_text_is_no_state(text: str) -> None:
    assert persistence.load(text) is None


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", None])
def test_a_time_of_another_clock_teaches_no_cold_start(time: str | None) -> None:
    """The horizon would be thousands of years, and the saved state would keep it."""
    page = {
        name: [ticks.series(0.5, given.KEY, pod=pod) for pod in ticks.PODS]
        for name in queries.PER_POD
    }
    before = given.state(2, coming=ticks.PODS)
    found = ticks.decide(page, Scaling(state=before), ticks.service(time, ticks.READY), ticks=1)
    usual = ticks.decide(
        page, Scaling(state=before), ticks.service(ticks.READY, ticks.READY), ticks=1
    )
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
        ticks.series(1.0, Key("team", f"s{number}"), le=f"0.{number:04d}1") for number in range(500)
    ]
    results.take("ttft:1h", rows)
    assert len(results.near("ttft:1h", [0.5])) <= 16


def test_dropped_values_are_counted_and_nan_is_not() -> None:
    results = QueryResults()
    rows = [ticks.series(value, given.KEY, pod="a") for value in (math.nan, 7.0, 0.5)]
    results.take("kv", rows)
    assert results.dropped == {"kv": 1}
    assert results.of(given.KEY).dropped == {"kv"}
    assert results.of(ticks.OTHER).dropped == set()


def test_a_native_histogram_of_one_pod_leaves_the_other_series() -> None:
    text = (
        b'{"status":"success","data":{"resultType":"vector","result":['
        b'{"metric":{"pod":"a"},"value":[1,"2"]},'
        b'{"metric":{"pod":"b"},"histogram":[1,{"count":"3","sum":"4"}]},'
        b'{"metric":{"pod":"c"},"value":[1,"5"]}]}}'
    )
    found = [one for part in vectors.read([text]) for one in part]
    assert found == [(b'{"pod":"a"}', 2.0), (b'{"pod":"c"}', 5.0)]
