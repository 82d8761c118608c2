"""Picking: the endpoint with the prefix, unless it is full or has far more requests than others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream_runtime.router.balancing import picking, weighted
from slipstream_runtime.router.balancing.picking import EndpointView

IDLE = EndpointView("a", in_flight=0, waiting=0, kv=0, capacity=100, weight_group="stable")
KNOWN = st.none() | st.floats(0, 200)
ENDPOINTS = st.lists(
    st.builds(
        EndpointView,
        name=st.uuids().map(str),
        in_flight=st.integers(0, 200),
        waiting=KNOWN,
        kv=st.none() | st.floats(0, 1),
        capacity=st.integers(1, 200),
        weight_group=st.just("stable"),
        pending=st.floats(0, 1e5),
    ),
    max_size=10,
)
STRATEGIES = st.sampled_from(["Prefix", "LeastLoad"])


def endpoint(name: str, **fields: object) -> EndpointView:
    return IDLE._replace(name=name, **fields)  # type: ignore[arg-type]


def picked(
    *endpoints: EndpointView, hits: dict[str, float] | None = None, **options: object
) -> str:
    chosen = picking.pick(
        endpoints,
        hits or {},
        **{"strategy": "Prefix", "tie": {}, **options},  # type: ignore[arg-type]
    )
    assert chosen is not None
    return chosen.name


@given(ENDPOINTS, st.data(), STRATEGIES)
def test_one_with_room_is_picked_whenever_there_is_one(
    endpoints: list[EndpointView], data: st.DataObject, strategy: picking.Strategy
) -> None:
    hits = {e.name: data.draw(st.floats(0, 1)) for e in endpoints}
    chosen = picking.pick(endpoints, hits, strategy=strategy, tie={})
    free = [e for e in endpoints if e.in_flight < e.capacity]
    assert chosen in free if free else chosen is None


@given(ENDPOINTS, st.data(), STRATEGIES)
def test_the_picked_one_is_within_the_load_bound(
    endpoints: list[EndpointView], data: st.DataObject, strategy: picking.Strategy
) -> None:
    hits = {e.name: data.draw(st.floats(0, 1)) for e in endpoints}
    chosen = picking.pick(endpoints, hits, strategy=strategy, tie={}, size=1e6)
    if chosen is not None:
        loads = [e.in_flight for e in endpoints if e.in_flight < e.capacity]
        assert chosen.in_flight < max(1.25 * (sum(loads) + 1) / len(loads), min(loads) + 16)


def test_a_hot_prefix_does_not_pile_up_on_its_holder() -> None:
    loads = dict.fromkeys("abcd", 0)
    for _ in range(400):
        endpoints = [endpoint(name, in_flight=load, capacity=1000) for name, load in loads.items()]
        loads[picked(*endpoints, hits={"a": 1.0}, size=10_000)] += 1
    assert max(loads.values()) <= 1.25 * 400 / 4 + 1


def test_no_endpoint_at_all_is_no_pick() -> None:
    assert picking.pick([], {}, strategy="Prefix", tie={}) is None


def test_the_holder_of_the_prompt_is_picked_though_another_is_a_little_idler() -> None:
    assert picked(endpoint("a", in_flight=3), endpoint("b"), hits={"a": 0.9}) == "a"


def test_a_short_prompt_goes_to_the_idler_and_a_long_one_to_its_holder() -> None:
    pair = endpoint("a", in_flight=3), endpoint("b")
    assert picked(*pair, hits={"a": 1.0}, size=10) == "b"
    assert picked(*pair, hits={"a": 1.0}, size=500) == "a"


def test_a_cold_prompt_avoids_the_engine_that_has_prompts_to_compute() -> None:
    assert picked(endpoint("a", pending=500), endpoint("b", in_flight=1)) == "b"


def test_least_load_ignores_where_the_prompt_is() -> None:
    pair = endpoint("a", in_flight=1), endpoint("b")
    assert picked(*pair, hits={"a": 1.0}, size=1e6, strategy="LeastLoad") == "b"


def test_of_equals_the_one_picked_longest_ago_is_next() -> None:
    three = endpoint("a"), endpoint("b"), endpoint("c")
    assert picked(*three, tie={"a": 3.0, "b": 1.0, "c": 2.0}) == "b"
    assert picked(*three, tie={"a": 3.0, "b": 1.0}) == "c"


def test_of_equals_the_one_with_the_emptier_cache_is_first() -> None:
    assert picked(endpoint("a", kv=0.8), endpoint("b", kv=0.3), tie={"b": 9.0}) == "b"


@pytest.mark.parametrize("field", ["waiting", "kv"])
def test_a_figure_that_one_lacks_counts_for_none(field: str) -> None:
    known, unknown = endpoint("a", **{field: 0.9}), endpoint("b", **{field: None})
    assert picked(known, unknown, tie={"b": 1.0}) == "a"
    assert picked(known, unknown, tie={"a": 1.0}) == "b"


def test_the_engines_own_queue_counts_as_load() -> None:
    assert picked(endpoint("a", waiting=9), endpoint("b", in_flight=2)) == "b"


@given(
    st.dictionaries(st.text(max_size=3), st.integers(0, 100), max_size=5),
    st.floats(0, 1, exclude_max=True),
)
def test_a_draw_takes_only_names_that_weigh_something(shares: dict[str, int], at: float) -> None:
    drawn = weighted.draw(shares, at)
    assert shares[drawn] > 0 if drawn is not None else not any(shares.values())


def test_draws_follow_the_weights_exactly() -> None:
    shares = {"old": 90, "new": 10}
    drawn = [weighted.draw(shares, step / 1000) for step in range(1000)]
    assert drawn.count("new") == 100
