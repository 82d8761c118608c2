"""The scaling state survives a restart, and an edit by hand does no harm."""

import hypothesis
import pytest
from hypothesis import strategies as st

from slipstream_operator.core.scaling import memory
from slipstream_operator.core.scaling.policy import State
from tests import given

STATE = State(
    desired=3,
    since=1000.0,
    reason="why",
    capacity=12.3,
    tokens_capacity=456.0,
)


@pytest.mark.parametrize("state", [STATE, given.state()])
def test_what_was_kept_comes_back(state: State) -> None:
    assert memory.load(memory.dump(state)) == state


def test_what_was_learned_is_rounded_so_that_noise_writes_nothing() -> None:
    state = given.state(capacity=12.3456, tokens_capacity=456.78, since=1000.04)
    assert memory.load(memory.dump(state)) == given.state(
        capacity=12.3, tokens_capacity=457.0, since=1000.0
    )


def test_recent_needs_are_not_kept_so_that_a_restart_waits_before_it_scales_down() -> None:
    found = memory.load(memory.dump(given.state(needs=((10.0, 1), (12.0, 4)))))
    assert found == given.state()


@hypothesis.given(
    st.integers(0, 100),
    st.floats(0, 2e9),
    st.none() | st.floats(1.0, 1e4),
)
def test_what_comes_back_is_kept_as_the_same_text(
    desired: int, since: float, capacity: float | None
) -> None:
    text = memory.dump(State(desired, since, "why", capacity=capacity))
    found = memory.load(text)
    assert found is not None
    assert memory.dump(found) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        "3",
        "not json",
        '{"since": 1}',
        '{"unknown": 1}',
        '{"desired": 1, "since": 0, "reason": "", "more": 1}',
        '{"desired": "three", "since": 0, "reason": ""}',
        '{"desired": 3, "since": null, "reason": ""}',
        '{"desired": 3, "since": 0, "reason": "", "capacity": "x"}',
        '{"desired": 3, "since": 0, "reason": "", "capacity": NaN}',
    ],
)
def test_what_is_no_state_is_forgotten(text: str) -> None:
    assert memory.load(text) is None


def test_a_capacity_of_nothing_is_never_divided_by() -> None:
    found = memory.load('{"desired": 3, "since": 0, "reason": "", "capacity": 0}')
    assert found == given.state(3, reason="", capacity=1.0)
