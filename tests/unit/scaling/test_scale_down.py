"""Steps down: their size, what they wait for, and when they are reverted."""

import dataclasses
from typing import Any

import pytest

from slipstream_operator.core import histograms
from slipstream_operator.core.scaling import policy
from slipstream_operator.core.scaling.metrics.values import Unknown
from slipstream_operator.core.scaling.models import forecast
from slipstream_operator.core.scaling.models.forecast import Outlook
from slipstream_operator.core.scaling.supply import PodStatus
from tests.support import given
from tests.support.decisions import FAST, QUIET, WINDOW, decide, known, traffic


def test_pods_without_a_place_do_not_stop_a_step_down() -> None:
    pending = PodStatus("pending", 100.0, None, scheduled=False)
    found = decide(
        known(4, needs=WINDOW, watched_since=0.0),
        **{**QUIET, "pods": (*given.supplied(3), pending)},
    )
    assert (found.desired, found.limited) == (3, "1 pod is unschedulable")


@pytest.mark.parametrize(
    ("current", "expected"), [(4, 3), (10, 7), (2, 1)], ids=["one", "a third", "to minReplicas"]
)
def test_the_count_shrinks_in_careful_steps(current: int, expected: int) -> None:
    state = known(current, needs=WINDOW, watched_since=0.0)
    load = traffic(2.0, pods=current)
    found = decide(state, **{**QUIET, "ready": current, "load": load})
    assert (found.desired, found.reason) == (expected, "1 replica was enough for 300 s.")


AGAINST: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "the need was not watched for a whole window": (
        {"watched_since": 800.0},
        {},
        "1 would be enough, but a lower need must last 300 s",
    ),
    "a step down was wrong not long ago": (
        {"caution": 2.0, "watched_since": 500.0},
        {},
        "1 would be enough, but a lower need must last 600 s",
    ),
    "not every engine reports": (
        {},
        {"load": dataclasses.replace(traffic(2.0, pods=4), complete=False)},
        "1 would be enough, but not every engine reports",
    ),
    "latency is not known": (
        {},
        {"readings": Unknown("refused")},
        "1 would be enough, but not every engine reports",
    ),
    "engines that are needed are starting": (
        {"needs": ((710.0, 1), (900.0, 3))},
        {"ready": 2, "starting": 2},
        "3 would be enough, but engines are starting",
    ),
    "a rollout is under way": (
        {},
        {"rolling": True},
        "1 would be enough, but engines are starting",
    ),
    "requests wait": (
        {},
        {"load": traffic(2.0, pods=4, waiting=1.0)},
        "1 would be enough, but requests wait",
    ),
    "the last step was just now": (
        {"since": 990.0},
        {},
        "1 would be enough, but steps down are 30 s apart",
    ),
}


@pytest.mark.parametrize(("state", "fields", "reason"), AGAINST.values(), ids=AGAINST)
def test_the_count_does_not_shrink_yet(
    state: dict[str, Any], fields: dict[str, Any], reason: str
) -> None:
    before = known(4, **{"needs": WINDOW, "watched_since": 0.0, **state})
    found = decide(before, **{**QUIET, **fields})
    assert (found.desired, found.reason) == (4, f"Keeping 4 replicas: {reason}.")


def test_while_load_falls_beyond_doubt_older_needs_do_not_hold() -> None:
    outlook = Outlook()
    for step in range(20, -1, -1):
        now = 1000.0 - forecast.STEP * step
        outlook = forecast.update(outlook, 1.0 + 0.2 * step, now=now, horizon=180.0)
    state = known(10, needs=((710.0, 10), (900.0, 4)), watched_since=0.0)
    falls = dataclasses.replace(state, outlook=outlook)
    options = {**QUIET, "ready": 10, "load": traffic(2.0, pods=10)}
    assert decide(state, **options).desired == 10
    assert decide(falls, **options).desired == 7


def test_a_step_down_stops_at_the_highest_need_of_the_window() -> None:
    state = known(10, needs=((710.0, 1), (900.0, 9)), watched_since=0.0)
    load = traffic(2.0, pods=10)
    assert decide(state, **{**QUIET, "ready": 10, "load": load}).desired == 9


def test_a_step_down_that_was_wrong_is_taken_back() -> None:
    missed = dataclasses.replace(
        given.reading(current=0.9),
        now=histograms.from_buckets([(0.25, 100.0), (0.5, 300.0), (1.0, 500.0)]),
        requests=500.0,
    )
    state = known(3, lowered_at=950.0, lowered_from=4, watched_since=0.0)
    found, after = policy.decide(
        given.inputs(ready=3, load=traffic(27.0, pods=3), readings=(missed,)), state
    )
    assert found.desired == 4
    assert after.caution > state.caution


@pytest.mark.parametrize(("ago", "expected"), [(200.0, 2.0), (400.0, 1.0)])
def test_a_step_down_that_had_to_be_undone_soon_makes_the_next_one_wait_longer(
    ago: float, expected: float
) -> None:
    state = known(1, lowered_at=1000.0 - ago, lowered_from=2, learned_at=1000.0)
    found, after = policy.decide(given.inputs(load=traffic(15.0), readings=FAST), state)
    assert (found.desired, after.caution) == (2, expected)
