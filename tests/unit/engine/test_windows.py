"""A window with another number of draft tokens is compared with the steps right before and after it."""

import math
from typing import Any

import pytest

from slipstream_runtime.engine import windows
from slipstream_runtime.engine.windows import LENGTH, Comparison, Windows


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, True),
        ({"varies": True}, False),
        ({"own_scheduler": True}, False),
        ({"ranks": 2}, False),
        ({"full_graphs": True}, False),
        ({"second_runner": True}, False),
    ],
)
def test_the_number_changes_only_where_steps_are_as_fast_as_in_an_engine_that_always_has_it(
    changed: dict[str, Any], expected: bool
) -> None:
    usual: dict[str, Any] = {
        "varies": False,
        "own_scheduler": False,
        "ranks": 1,
        "second_runner": False,
        "full_graphs": False,
    }
    assert windows.possible(**{**usual, **changed}) is expected


def fill(
    under_way: Windows, drafted: int, seconds: float, *, emitted: int = 1
) -> Comparison | None:
    """Add the steps of one window; return the comparison, if the last step completes one."""
    found = None
    for number in range(LENGTH):
        found = under_way.add(drafted, seconds=seconds, emitted=emitted)
        assert found is None or number == LENGTH - 1
    return found


def begun(usual: float = 0.010) -> Windows:
    under_way = Windows()
    fill(under_way, 0, usual)
    assert under_way.ready
    under_way.begin(4)
    return under_way


def test_a_window_uses_its_number_until_it_has_its_steps() -> None:
    under_way = begun()
    for _ in range(LENGTH):
        assert under_way.tokens(0) == 4
        under_way.add(4, seconds=0.01, emitted=1)
    assert under_way.tokens(0) == 0
    assert under_way.open


def test_a_window_is_compared_with_the_steps_on_both_sides() -> None:
    under_way = begun(usual=0.010)
    fill(under_way, 4, 0.030)
    found = fill(under_way, 0, 0.020)
    assert found is not None
    assert (found.tokens, found.usual) == (4, 0)
    assert found.log_ratio == pytest.approx(math.log(2))
    assert not under_way.open
    assert under_way.ready  # the steps after it are the steps before the next one


def test_the_loss_is_the_time_beyond_that_of_usual_steps_for_the_same_tokens() -> None:
    under_way = begun(usual=0.010)
    under_way.interrupt(0.040)  # the draft model reads what it missed
    fill(under_way, 4, 0.030, emitted=2)
    found = fill(under_way, 0, 0.010)
    assert found is not None
    assert found.lost == pytest.approx(4 + 3 * LENGTH - 2 * LENGTH)


def test_a_step_that_stalls_hardly_changes_the_comparison() -> None:
    under_way = begun()
    under_way.add(4, seconds=2.0, emitted=1)
    for _ in range(LENGTH - 1):
        under_way.add(4, seconds=0.01, emitted=1)
    found = fill(under_way, 0, 0.01)
    assert found is not None
    assert found.log_ratio < 0.2


def test_steps_of_another_number_do_not_count() -> None:
    under_way = begun()
    for _ in range(LENGTH):
        assert under_way.add(0, seconds=9.0, emitted=1) is None  # ordered before the window
    fill(under_way, 4, 0.010)
    assert under_way.add(4, seconds=9.0, emitted=1) is None
    found = fill(under_way, 0, 0.010)
    assert found is not None
    assert found.log_ratio == pytest.approx(0)


def test_a_comparison_is_given_up_when_load_keeps_changing() -> None:
    under_way = begun()
    while under_way.open:
        under_way.interrupt()
    assert under_way.tokens(0) == 0
    assert not under_way.ready


def test_another_usual_number_starts_again() -> None:
    under_way = Windows()
    fill(under_way, 0, 0.01)
    under_way.add(4, seconds=0.01, emitted=1)
    assert not under_way.ready
