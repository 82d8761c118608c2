"""The scaling policy, whatever is measured: what must hold for every input."""

import dataclasses
import math

import hypothesis
from hypothesis import strategies as st

from slipstream_operator.core.resolve import Bounds
from slipstream_operator.core.scaling import policy
from slipstream_operator.core.scaling.policy import Inputs, State
from slipstream_operator.core.scaling.signals import Load, Reading, Unknown
from tests import given

NOW = 10_000.0
COUNTS = st.integers(1, 20)
AMOUNTS = st.integers(0, 5000).map(lambda tenths: tenths / 10)
SHARES = st.integers(0, 1000).map(lambda mills: mills / 1000)
UNKNOWN = st.just(Unknown("no data"))


@st.composite
def _bounds(draw: st.DrawFn) -> Bounds:
    low, high = sorted((draw(COUNTS), draw(COUNTS)))
    return Bounds(low, high, follows_load=True, recommend=draw(st.booleans()))


LOADS: st.SearchStrategy[Load] = st.builds(
    Load,
    in_flight=AMOUNTS,
    in_flight_mean=AMOUNTS,
    waiting=st.integers(0, 50).map(float),
    kv_usage=SHARES,
    tokens_per_second=AMOUNTS,
    complete=st.booleans(),
)
READINGS: st.SearchStrategy[tuple[Reading, ...]] = st.lists(
    st.builds(given.reading, current=st.none() | AMOUNTS, requests=st.integers(0, 50).map(float)),
    max_size=3,
).map(tuple)
INPUTS: st.SearchStrategy[Inputs] = st.builds(
    Inputs,
    now=st.just(NOW),
    bounds=_bounds(),
    ready=COUNTS,
    starting=st.integers(0, 3),
    rolling=st.booleans(),
    load=LOADS,
    readings=READINGS,
    throughput=st.none() | st.integers(1, 5000),
    down_window=st.sampled_from([20.0, 300.0]),
)
STATES: st.SearchStrategy[State] = st.builds(
    State,
    desired=st.integers(0, 30),
    since=st.integers(0, int(NOW)).map(float),
    reason=st.just("why"),
    capacity=st.none() | st.integers(1, 100).map(float),
    tokens_capacity=st.none() | AMOUNTS,
    needs=st.lists(
        st.tuples(st.integers(int(NOW) - 600, int(NOW)).map(float), COUNTS), max_size=4
    ).map(lambda needs: tuple(sorted(needs))),
)


def _current(inputs: Inputs, state: State) -> int:
    return min(max(state.desired, inputs.bounds.minimum), inputs.bounds.maximum)


@hypothesis.given(INPUTS, STATES)
def test_the_count_stays_within_its_bounds(inputs: Inputs, state: State) -> None:
    decision, after = policy.decide(inputs, state)
    assert inputs.bounds.minimum <= decision.desired <= inputs.bounds.maximum
    assert after.desired == decision.desired


@hypothesis.given(INPUTS, STATES)
def test_the_same_inputs_give_the_same_decision(inputs: Inputs, state: State) -> None:
    assert policy.decide(inputs, state) == policy.decide(inputs, state)


@hypothesis.given(INPUTS, STATES, st.sampled_from(["load", "readings"]))
def test_missing_data_hold_the_count(inputs: Inputs, state: State, missing: str) -> None:
    unknown = dataclasses.replace(inputs, **{missing: Unknown("no data")})  # type: ignore[arg-type]
    decision, _ = policy.decide(unknown, state)
    assert decision.desired == _current(inputs, state)
    assert not decision.known


@hypothesis.given(INPUTS, STATES, AMOUNTS)
def test_more_requests_in_flight_never_give_fewer_replicas(
    inputs: Inputs, state: State, more: float
) -> None:
    assert isinstance(inputs.load, Load)
    busier = dataclasses.replace(inputs.load, in_flight=inputs.load.in_flight + more)
    calm, _ = policy.decide(inputs, state)
    busy, _ = policy.decide(dataclasses.replace(inputs, load=busier), state)
    assert busy.desired >= calm.desired


@hypothesis.given(INPUTS, STATES)
def test_one_decision_at_most_doubles_or_adds_four(inputs: Inputs, state: State) -> None:
    current = _current(inputs, state)
    decision, _ = policy.decide(inputs, state)
    assert decision.desired <= max(current + 4, math.ceil(current * policy.MAX_GROWTH))


@hypothesis.given(INPUTS, STATES)
def test_one_decision_takes_at_most_a_fifth_or_one(inputs: Inputs, state: State) -> None:
    current = _current(inputs, state)
    decision, _ = policy.decide(inputs, state)
    assert decision.desired >= current - max(1, math.floor(current * policy.DOWN_SHARE))


@hypothesis.given(INPUTS, STATES)
def test_what_is_paused_stays(inputs: Inputs, state: State) -> None:
    paused = dataclasses.replace(inputs, bounds=dataclasses.replace(inputs.bounds, paused=True))
    assert policy.decide(paused, state)[0].desired == _current(inputs, state)


@hypothesis.given(INPUTS, STATES, st.integers(0, 30))
def test_a_fixed_count_is_what_the_object_says(inputs: Inputs, state: State, replicas: int) -> None:
    fixed = dataclasses.replace(inputs, bounds=Bounds(replicas, replicas, follows_load=False))
    assert policy.decide(fixed, state)[0].desired == replicas


@hypothesis.given(INPUTS, STATES)
def test_while_engines_start_latency_orders_no_more(inputs: Inputs, state: State) -> None:
    starting = dataclasses.replace(inputs, starting=2, throughput=None)
    untaught = dataclasses.replace(state, capacity=None)
    decision, _ = policy.decide(starting, untaught)
    assert decision.desired <= _current(inputs, state)


TICK, WINDOW = 10.0, 60.0


@hypothesis.given(st.lists(LOADS | UNKNOWN, min_size=1, max_size=12), READINGS, STATES)
def test_the_count_shrinks_only_after_a_whole_window_of_data(
    loads: list[Load | Unknown], readings: tuple[Reading, ...], state: State
) -> None:
    state = dataclasses.replace(state, needs=())
    began = NOW
    for tick, load in enumerate(loads):
        now = NOW + tick * TICK
        inputs = given.inputs(
            now=now, load=load, readings=readings, down_window=WINDOW, bounds=given.bounds(1, 30)
        )
        before = _current(inputs, state)
        decision, state = policy.decide(inputs, state)
        if isinstance(load, Unknown):
            began = now + TICK
        assert decision.desired >= before or now - began >= WINDOW * 0.95
