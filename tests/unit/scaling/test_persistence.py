"""The scaling state survives a restart, and an edit by hand does no harm."""

import dataclasses
import json

import hypothesis
import pytest
from hypothesis import strategies as st

from slipstream_operator.core.scaling import persistence
from slipstream_operator.core.scaling.models import steptime
from slipstream_operator.core.scaling.models.coldstart import ColdStart
from slipstream_operator.core.scaling.models.feedback import Feedback
from slipstream_operator.core.scaling.models.forecast import Outlook
from slipstream_operator.core.scaling.models.sizing import Demand
from slipstream_operator.core.scaling.models.spikes import Spikes
from slipstream_operator.core.scaling.models.steptime import Row
from slipstream_operator.core.scaling.state import State
from tests.support import given

ROWS = (Row(3.0, 1.5, 900.0, 20.0, 0.009), Row(20.0, 40.0, 30000.0, 400.0, 0.021))
STATE = State(
    desired=3,
    since=1000.0,
    reason="why",
    revision="abc",
    model=steptime.fit(ROWS),
    feedback=Feedback({"ttft": 1.2}, kappa=1.1),
    cold=ColdStart(4.0, 4.5, 0.1),
    outlook=Outlook(season=(1.5, -1.0) * 48, spread=0.05),
    spikes=Spikes(2.0, 0.5),
    mix=Demand(0.005, 5.5, 1.0, 1260.0),
)


@pytest.mark.parametrize("state", [STATE, given.state()])
def test_a_saved_state_is_restored(state: State) -> None:
    assert persistence.load(persistence.dump(state)) == state


def test_saved_numbers_are_rounded_so_that_noise_writes_nothing() -> None:
    text = persistence.dump(given.state(feedback=Feedback(kappa=1.23456), since=1000.04))
    assert persistence.load(text) == given.state(feedback=Feedback(kappa=1.235), since=1000.0)


@pytest.mark.parametrize(
    "recent",
    [
        {"needs": ((10.0, 1), (12.0, 4))},
        {"watched_since": 10.0},
        {"blind_since": 10.0},
        {"outlook": Outlook(at=10.0, level=3.0, recent=bytes(16))},
        {"spikes": Spikes(began=10.0, before=2)},
        {"coming": ("a",)},
    ],
)
def test_recent_values_are_not_saved(recent: dict[str, object]) -> None:
    assert persistence.load(persistence.dump(given.state(**recent))) == given.state()


def test_the_text_is_small() -> None:
    assert len(persistence.dump(STATE)) < 3000


@hypothesis.given(st.integers(0, 100), st.floats(0, 2e9), st.floats(1.0, 2.0))
def test_a_restored_state_is_saved_as_the_same_text(
    desired: int, since: float, kappa: float
) -> None:
    text = persistence.dump(State(desired, since, "why", feedback=Feedback(kappa=kappa)))
    found = persistence.load(text)
    assert found is not None
    assert persistence.dump(found) == text


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
        '{"desired": "three", "since": 0, "reason": ""}',
        '{"desired": 3, "since": null, "reason": ""}',
        '{"desired": 3, "since": 0, "reason": "", "model": 3}',
        '{"desired": 3, "since": 0, "reason": "", "caution": NaN}',
        '{"desired": 3, "since": 1e999, "reason": ""}',
        '{"desired": 3, "since": 0, "reason": "", "model": {"rows": [[1, 0, 0, 0, 0]]}}',
        '{"desired": 3, "since": 0, "reason": "", "outlook": {"season": [1, 2]}}',
    ],
)
def test_a_malformed_state_is_dropped(text: str) -> None:
    assert persistence.load(text) is None


def test_the_state_of_an_older_operator_is_restored_as_far_as_it_goes() -> None:
    text = (
        '{"capacity": 12.3, "desired": 3, "reason": "why", "since": 5.0, "tokens_capacity": null}'
    )
    assert persistence.load(text) == State(3, 5.0, "why")


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("cold", "count", -1),
        ("cold", "mean", 1e18),
        ("cold", "variance", -1),
        ("outlook", "losses", [0, 0, -1]),
        ("outlook", "spread", -1),
        ("spikes", "long", -1),
        ("spikes", "short", -1),
        ("feedback", "kappa", 0),
        ("feedback", "corrections", {"ttft": -1}),
        (None, "concurrency", 0),
        (None, "caution", 0),
        (None, "desired", -1),
        (None, "lowered_from", -1),
        (None, "since", 1e18),
        (None, "since", -1),
        (None, "reason", "x" * 2000),
        (None, "lowered_at", 1e300),
        ("outlook", "season", [1e300] * 96),
        ("mix", "context", 1e300),
        ("mix", "requests", -1),
        ("feedback", "corrections", {"latency of an attacker": 1.0}),
        ("model", "rows", [{"count": 1, "batch": 1, "context": 1e300, "prompt": 1, "seconds": 1}]),
    ],
)
def test_numbers_that_no_decision_leaves_are_no_state(
    part: str | None, key: str, value: object
) -> None:
    """Decisions would fail on them with each tick, for as long as the text is kept."""
    kept = json.loads(persistence.dump(STATE))
    (kept[part] if part else kept)[key] = value
    assert persistence.load(json.dumps(kept)) is None


@pytest.mark.parametrize("field", ["needs", "coming", "idle_since", "raised_at", "raised_from"])
def test_fields_of_a_running_process_are_not_read(field: str) -> None:
    kept = json.loads(persistence.dump(STATE))
    kept[field] = [[1e300, 5]]
    kept["outlook"] |= {"recent": "odd", "cycles": {"period": 7}, "line": [1e300, 1e300]}
    assert persistence.load(json.dumps(kept)) == STATE


def test_times_of_another_clock_are_set_to_now() -> None:
    text = persistence.dump(dataclasses.replace(STATE, since=2e11, lowered_at=2e11))
    found = persistence.load(text, now=5000.0)
    assert found is not None
    assert (found.since, found.lowered_at) == (5000.0, 5000.0)


def test_a_text_nested_without_end_is_no_state() -> None:
    assert persistence.load("[" * 100_000) is None
