"""The scaling policy, whatever is measured: what must hold for every input."""

import dataclasses

import hypothesis
from hypothesis import strategies as st

from slipstream_operator.core.scaling import demand, persistence, policy, scale_down
from slipstream_operator.core.scaling.bounds import Bounds
from slipstream_operator.core.scaling.inputs import Inputs
from slipstream_operator.core.scaling.metrics.values import Load, PodLoad, Reading, Unknown
from slipstream_operator.core.scaling.models import steptime
from slipstream_operator.core.scaling.models.coldstart import ColdStart
from slipstream_operator.core.scaling.models.feedback import Feedback
from slipstream_operator.core.scaling.models.forecast import Outlook
from slipstream_operator.core.scaling.models.spikes import Spikes
from slipstream_operator.core.scaling.models.steptime import Row
from slipstream_operator.core.scaling.state import State
from slipstream_operator.core.scaling.supply import PodStatus
from tests.support import given

NOW = 10_000.0
COUNTS = st.integers(1, 20)
UNKNOWN = st.just(Unknown("no data"))


def _amounts(most: int) -> st.SearchStrategy[float]:
    return st.integers(0, 10 * most).map(lambda tenths: tenths / 10)


PODS: st.SearchStrategy[PodLoad] = st.builds(
    PodLoad,
    running=_amounts(200),
    waiting=_amounts(500),
    kv=st.integers(0, 100).map(lambda percent: percent / 100),
    running_mean=_amounts(200),
    waiting_mean=_amounts(500),
    kv_mean=st.integers(0, 100).map(lambda percent: percent / 100),
    output=_amounts(5000),
    prompt=_amounts(20000),
    steps=_amounts(150),
    itl_sum=_amounts(100),
    itl_count=_amounts(5000),
    started=_amounts(50),
    finished=_amounts(50),
    rejected=_amounts(5),
    preempted=_amounts(1),
    settled=st.booleans(),
)
LOADS: st.SearchStrategy[Load] = st.builds(
    Load,
    pods=st.lists(PODS, min_size=1, max_size=4).map(tuple),
    complete=st.booleans(),
    arrivals=st.none() | _amounts(100),
    output_length=st.none() | _amounts(1000),
    prompt_length=st.none() | _amounts(5000),
    kv_tokens=st.none() | st.integers(1000, 500_000),
)
READINGS: st.SearchStrategy[tuple[Reading, ...]] = st.lists(
    st.builds(given.reading, current=st.none() | _amounts(9), requests=_amounts(500)), max_size=2
).map(tuple)


@st.composite
def _bounds(draw: st.DrawFn) -> Bounds:
    low, high = sorted((draw(st.integers(0, 20)), draw(COUNTS)))
    return Bounds(
        low,
        high,
        follows_load=True,
        recommend=draw(st.booleans()),
        idle_after=draw(st.none() | st.just(600.0)),
    )


@st.composite
def _pods(draw: st.DrawFn) -> tuple[PodStatus, ...]:
    ready = given.supplied(draw(COUNTS), starting=draw(st.integers(0, 3)), now=NOW)
    stuck = draw(st.integers(0, 3))
    return (
        *ready,
        *(PodStatus(f"stuck-{n}", NOW - 500.0, None, failed_starts=1) for n in range(stuck)),
    )


INPUTS: st.SearchStrategy[Inputs] = st.builds(
    Inputs,
    now=st.just(NOW),
    bounds=_bounds(),
    pods=_pods(),
    rolling=st.booleans(),
    load=LOADS,
    readings=READINGS,
    objectives=st.just(given.inputs().objectives),
    scale_down_window=st.sampled_from([20.0, 300.0]),
    max_sequences=st.none() | st.integers(1, 512),
    held=st.none() | _amounts(5),
)
MODELS = st.just(steptime.StepTimeModel()) | st.builds(
    lambda alpha, more: steptime.fit(
        (Row(20.0, 1.0, 1200.0, 5.0, alpha), Row(20.0, 60.0, 72000.0, 300.0, alpha + more))
    ),
    st.integers(2, 50).map(lambda ms: ms / 1000),
    st.integers(0, 50).map(lambda ms: ms / 1000),
)
STATES: st.SearchStrategy[State] = st.builds(
    State,
    desired=st.integers(0, 30),
    since=st.integers(0, int(NOW)).map(float),
    reason=st.just("why"),
    model=MODELS,
    feedback=st.builds(Feedback, kappa=st.integers(100, 200).map(lambda share: share / 100)),
    concurrency=st.none() | st.integers(1, 100).map(float),
    cold=st.just(ColdStart(5.0, 4.5, 0.1)),
    outlook=st.builds(
        Outlook, at=st.just(NOW - 15.0), level=_amounts(20), spread=st.sampled_from([0.0, 0.2])
    ),
    spikes=st.builds(Spikes, began=st.none() | st.just(NOW - 30.0), before=st.integers(1, 9)),
    needs=st.lists(
        st.tuples(st.integers(int(NOW) - 600, int(NOW)).map(float), COUNTS), max_size=4
    ).map(lambda needs: tuple(sorted(needs))),
    watched_since=st.none() | st.integers(0, int(NOW)).map(float),
    raised_at=st.integers(int(NOW) - 100, int(NOW)).map(float),
    raised_from=st.integers(0, 20),
    lowered_at=st.integers(int(NOW) - 200, int(NOW)).map(float),
    lowered_from=st.integers(0, 20),
    caution=st.sampled_from([1.0, 2.0]),
    idle_since=st.none() | st.integers(0, int(NOW)).map(float),
)


def _current(inputs: Inputs, state: State) -> int:
    return min(max(state.desired, inputs.bounds.minimum), inputs.bounds.maximum)


def _scaled(pod: PodLoad, factor: float) -> PodLoad:
    """More of the same requests, all else equal: what engines hold is what was asked for."""
    changed = {
        field.name: getattr(pod, field.name) * factor
        for field in dataclasses.fields(PodLoad)
        if field.name not in ("kv", "kv_mean", "steps", "itl_sum", "settled")
    }
    return dataclasses.replace(
        pod, kv=min(pod.kv * factor, 1.0), kv_mean=pod.kv_mean * factor, **changed
    )


@hypothesis.given(INPUTS, STATES)
def test_the_count_stays_within_its_bounds(inputs: Inputs, state: State) -> None:
    decision, after = policy.decide(inputs, state)
    assert inputs.bounds.minimum <= decision.desired <= inputs.bounds.maximum
    assert after.desired == decision.desired
    assert decision.reason


@hypothesis.given(INPUTS, STATES)
def test_the_same_inputs_give_the_same_decision(inputs: Inputs, state: State) -> None:
    assert policy.decide(inputs, state) == policy.decide(inputs, state)


@hypothesis.given(INPUTS, STATES)
def test_unknown_load_holds_the_count(inputs: Inputs, state: State) -> None:
    hypothesis.assume(_current(inputs, state) > 0)
    decision, _ = policy.decide(dataclasses.replace(inputs, load=Unknown("no data")), state)
    assert decision.desired == _current(inputs, state)
    assert not decision.known


@hypothesis.given(INPUTS, STATES)
def test_unknown_latency_never_lowers_the_count(inputs: Inputs, state: State) -> None:
    decision, _ = policy.decide(dataclasses.replace(inputs, readings=Unknown("no data")), state)
    assert decision.desired >= _current(inputs, state)
    assert not decision.known or _current(inputs, state) == 0


@hypothesis.given(INPUTS, STATES)
def test_incomplete_data_never_lower_the_count(inputs: Inputs, state: State) -> None:
    assert isinstance(inputs.load, Load)
    partial = dataclasses.replace(inputs, load=dataclasses.replace(inputs.load, complete=False))
    assert policy.decide(partial, state)[0].desired >= _current(inputs, state)


@hypothesis.given(INPUTS, STATES, st.floats(1.0, 5.0))
def test_more_demand_never_gives_fewer_replicas(
    inputs: Inputs, state: State, factor: float
) -> None:
    assert isinstance(inputs.load, Load)
    inputs = dataclasses.replace(inputs, readings=())
    busier = dataclasses.replace(
        inputs.load,
        pods=tuple(_scaled(pod, factor) for pod in inputs.load.pods),
        arrivals=None if inputs.load.arrivals is None else inputs.load.arrivals * factor,
    )
    calm, _ = policy.decide(inputs, state)
    busy, _ = policy.decide(dataclasses.replace(inputs, load=busier), state)
    assert busy.desired >= calm.desired


@hypothesis.given(PODS, PODS, st.integers(2, 6), STATES)
def test_one_outlying_pod_moves_the_need_by_one_at_most(
    usual: PodLoad, odd: PodLoad, count: int, state: State
) -> None:
    state = dataclasses.replace(state, desired=count, lowered_from=0)
    alike = Load((usual,) * count, complete=True)
    busiest = dataclasses.replace(
        odd,
        running=2 * usual.running + odd.running + 0.1,
        waiting=2 * usual.waiting + odd.waiting,
    )
    one_odd = Load((*(usual,) * (count - 1), busiest), complete=True)
    assert demand.without_outlier(one_odd) == alike
    needs = []
    for load in (alike, one_odd):
        inputs = given.inputs(
            now=NOW, ready=count, load=load, readings=(), bounds=given.bounds(1, 1000)
        )
        decision, _ = policy.decide(inputs, state)
        assert decision.numbers is not None
        needs.append(decision.numbers.need)
    # NB: without the odd pod the count can fall, so the present count bounds the step up as well.
    assert needs[1] <= max(needs[0], count) + 1


@hypothesis.given(INPUTS, STATES)
def test_zero_needs_positive_proof(inputs: Inputs, state: State) -> None:
    decision, _ = policy.decide(inputs, state)
    if decision.desired == 0 and _current(inputs, state) > 0:
        assert isinstance(inputs.load, Load)
        assert inputs.bounds.minimum == 0
        assert inputs.bounds.idle_after is not None
        assert inputs.load.complete
        assert state.idle_since is not None
        assert NOW - state.idle_since >= inputs.bounds.idle_after
        assert inputs.load.in_flight == 0
        assert inputs.load.arrivals == 0
        assert inputs.held == 0


@hypothesis.given(INPUTS, STATES)
def test_a_request_that_is_held_wakes_a_sleeping_service(inputs: Inputs, state: State) -> None:
    asleep = dataclasses.replace(
        inputs, bounds=dataclasses.replace(inputs.bounds, minimum=0), held=1.0
    )
    assert policy.decide(asleep, dataclasses.replace(state, desired=0))[0].desired >= 1


@hypothesis.given(INPUTS, STATES)
def test_without_panic_one_step_up_at_most_doubles_or_adds_four(
    inputs: Inputs, state: State
) -> None:
    assert isinstance(inputs.load, Load)
    calm = dataclasses.replace(
        inputs.load,
        pods=tuple(
            dataclasses.replace(pod, waiting=0.0, preempted=0.0, rejected=0.0)
            for pod in inputs.load.pods
        ),
    )
    decision, _ = policy.decide(dataclasses.replace(inputs, load=calm), state)
    current = _current(inputs, state)
    assert decision.desired <= max(current + policy.UP_REPLICAS, 2 * current)


@hypothesis.given(INPUTS, STATES)
def test_one_step_down_takes_at_most_a_third_or_one(inputs: Inputs, state: State) -> None:
    current = _current(inputs, state)
    decision, _ = policy.decide(inputs, state)
    assert decision.desired >= current - max(1, int(current * scale_down.SHARE))


@hypothesis.given(INPUTS, STATES)
def test_while_engines_fail_to_start_no_more_are_ordered(inputs: Inputs, state: State) -> None:
    failing = tuple(PodStatus(f"bad-{n}", NOW - 500.0, None, failed_starts=1) for n in range(2))
    broken = dataclasses.replace(inputs, pods=(*inputs.pods, *failing))
    current = _current(inputs, state)
    hypothesis.assume(current > 0)
    assert policy.decide(broken, state)[0].desired <= current


@hypothesis.given(INPUTS, STATES)
def test_a_paused_service_keeps_its_replicas(inputs: Inputs, state: State) -> None:
    paused = dataclasses.replace(inputs, bounds=dataclasses.replace(inputs.bounds, paused=True))
    assert policy.decide(paused, state)[0].desired == _current(inputs, state)


@hypothesis.given(INPUTS, STATES, st.integers(0, 30))
def test_a_fixed_count_is_that_of_the_object(inputs: Inputs, state: State, replicas: int) -> None:
    fixed = dataclasses.replace(inputs, bounds=Bounds(replicas, replicas, follows_load=False))
    assert policy.decide(fixed, state)[0].desired == replicas


@hypothesis.given(INPUTS, STATES)
def test_the_kept_state_is_read_back_as_the_same_text(inputs: Inputs, state: State) -> None:
    _, after = policy.decide(inputs, state)
    text = persistence.dump(after)
    found = persistence.load(text)
    assert found is not None
    assert persistence.dump(found) == text
    assert found.desired == after.desired


@hypothesis.given(st.lists(INPUTS, min_size=1, max_size=4), STATES)
def test_a_restart_lowers_nothing_for_a_whole_window(recorded: list[Inputs], state: State) -> None:
    kept = persistence.load(persistence.dump(state))
    assert kept is not None
    for tick, inputs in enumerate(recorded):
        inputs = dataclasses.replace(
            inputs,
            now=NOW + 10.0 * tick,
            scale_down_window=300.0,
            bounds=given.bounds(1, 30),
        )
        before = _current(inputs, kept)
        decision, kept = policy.decide(inputs, kept)
        assert decision.desired >= before


TICK, WINDOW = 10.0, 60.0


@hypothesis.given(st.lists(LOADS | UNKNOWN, min_size=1, max_size=12), READINGS, STATES)
def test_the_count_shrinks_only_after_a_whole_window_of_data(
    loads: list[Load | Unknown], readings: tuple[Reading, ...], state: State
) -> None:
    state = dataclasses.replace(state, needs=(), watched_since=None)
    began = NOW
    for tick, load in enumerate(loads):
        now = NOW + tick * TICK
        inputs = given.inputs(
            now=now,
            load=load,
            readings=readings,
            scale_down_window=WINDOW,
            bounds=given.bounds(1, 30),
        )
        before = _current(inputs, state)
        decision, state = policy.decide(inputs, state)
        assert decision.desired >= before or now - began >= WINDOW


@hypothesis.given(st.lists(INPUTS, min_size=1, max_size=6), STATES)
def test_a_recorded_sequence_gives_the_same_decisions_bit_for_bit(
    recorded: list[Inputs], state: State
) -> None:
    def replay() -> list[object]:
        found: list[object] = []
        known = state
        for tick, inputs in enumerate(recorded):
            decision, known = policy.decide(
                dataclasses.replace(inputs, now=NOW + 10.0 * tick), known
            )
            found.append((decision, known))
        return found

    assert repr(replay()) == repr(replay())
