"""Stored state of rollouts."""

import dataclasses
import json
import math
from typing import Any

import pytest

from slipstream_operator.core.rollout.state import Phase, Progress, State
from tests.support.canaries import CANARY, STABLE

STATE = State(
    STABLE, CANARY, since=1000.25, phase=Phase.REJECTED, step=1, verdict="Worse", reason="Slower."
)


def test_a_stored_state_is_restored() -> None:
    progress = Progress(STATE, {"retry": "bbbbbbbb/1"})
    assert progress.text is not None
    restored = Progress.parse(progress.text, now=2000.0)
    assert restored == Progress(dataclasses.replace(STATE, since=1000.2), progress.done)


def test_nothing_is_stored_without_a_rollout() -> None:
    assert Progress().text is None


def test_figures_of_a_comparison_are_not_stored() -> None:
    comparing = dataclasses.replace(STATE, phase=Phase.COMPARING)
    later = dataclasses.replace(comparing, verdict="NotWorse", reason="Not worse in 300 requests.")
    assert Progress(comparing).text == Progress(later).text


def test_a_time_of_another_clock_is_not_in_the_future() -> None:
    text = Progress(STATE).text
    assert text is not None
    state = Progress.parse(text, now=500.0).state
    assert state is not None
    assert state.since == 500.0


def _edited(**changes: Any) -> str:
    text = Progress(STATE).text
    assert text is not None
    data = json.loads(text)
    data["state"] |= changes
    return json.dumps(data)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[]",
        "[" * 100_000,
        json.dumps({"state": {"stable": STABLE}}),
        json.dumps({"done": {"promote": 1}}),
        _edited(phase="Flying"),
        _edited(since=math.nan),
        _edited(since=1e300),
        _edited(since="late"),
        _edited(step=99),
        _edited(step=-2),
        _edited(stable=CANARY),
        _edited(canary="../other"),
        _edited(reason="x" * 5000),
    ],
)
def test_a_malformed_text_is_no_rollout(text: str) -> None:
    assert Progress.parse(text, now=2000.0) == Progress()
