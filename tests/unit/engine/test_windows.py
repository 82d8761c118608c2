"""Windows without speculation are short and rare, and come soon after a start."""

from itertools import groupby
from typing import Any

import pytest

from slipstream_runtime.engine import windows
from slipstream_runtime.engine.windows import Windows


def spans(steps: int) -> list[tuple[bool, int]]:
    """What came in turn, and for how many steps: whether speculation was suspended."""
    under_way, seen = Windows(), []
    for _ in range(steps):
        seen.append(under_way.suspended)
        under_way.step()
    return [(suspended, len(list(run))) for suspended, run in groupby(seen)]


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
def test_speculation_pauses_only_where_steps_without_it_are_as_fast_as_an_engine_without_it(
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


def test_an_engine_starts_with_speculation_and_soon_goes_without_for_a_window() -> None:
    early = [(False, windows.EARLY_GAP), (True, windows.LENGTH)]
    assert spans(windows.EARLY * (windows.EARLY_GAP + windows.LENGTH)) == early * windows.EARLY


def test_in_the_long_run_two_steps_in_a_hundred_go_without() -> None:
    early = windows.EARLY * (windows.EARLY_GAP + windows.LENGTH)
    settled = spans(early + 10 * (windows.GAP + windows.LENGTH))[2 * windows.EARLY :]
    assert settled == [(False, windows.GAP), (True, windows.LENGTH)] * 10
    assert windows.LENGTH / (windows.GAP + windows.LENGTH) == 0.02


def test_only_the_last_step_of_a_window_says_so() -> None:
    under_way = Windows()
    ends = [under_way.step() for _ in range(windows.EARLY_GAP + windows.LENGTH)]
    assert ends == [*[False] * (len(ends) - 1), True]


def test_what_is_near_a_window_are_as_many_steps_on_either_side() -> None:
    under_way, near = Windows(), []
    for _ in range(2 * (windows.EARLY_GAP + windows.LENGTH)):
        near.append(under_way.near)
        under_way.step()
    length = windows.LENGTH
    far, before = windows.EARLY_GAP - length, [True] * length
    first = [False] * far + before + [True] * length
    second = [True] * length + [False] * (far - length) + before + [True] * length
    assert near == first + second
