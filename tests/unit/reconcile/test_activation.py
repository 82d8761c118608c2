"""Activation: a Lease that the router renews wakes a service that is at zero, and nothing else does."""

import dataclasses
import datetime
from typing import Any

import pytest

from slipstream_operator.core import activation
from slipstream_operator.core.observed import Observed
from slipstream_operator.core.scaling.bounds import Bounds
from tests.support import given

SPEC: dict[str, Any] = {
    "model": given.MODEL,
    "scaling": {"minReplicas": 0, "idleAfter": "5m", "maxReplicas": 2},
}
NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC).timestamp()
MONOTONIC = 50.0
BOUNDS = given.resolved(SPEC).bounds


def _observed(renewed: object, *, controller: str = given.UID) -> Observed:
    lease = given.find(given.rendered(given.observed(SPEC)), "Lease")
    spec = {} if renewed is None else {"spec": {"renewTime": renewed}}
    return given.observed(SPEC, children=[given.child({**lease, **spec}, controller=controller)])


def _requested(observed: Observed, *, bounds: Bounds = BOUNDS, desired: int = 0) -> bool:
    """Whether the service wakes after the first look at it."""
    renewal = activation.noted(observed, None, now=NOW, monotonic=MONOTONIC)
    return activation.requested(renewal, bounds, desired, monotonic=MONOTONIC)


def _ago(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(NOW - seconds, datetime.UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


@pytest.mark.parametrize(
    ("renewed", "expected"),
    [
        (_ago(0), True),
        (_ago(29), True),
        (_ago(-5), True),
        (_ago(31), False),
        (None, False),
        ("", False),
        ("yesterday", False),
        ("9999-12-31T23:59:59.999999Z", False),
        ("0000-01-01T00:00:00.000000Z", False),
        ("0001-01-01T00:00:00.000000+14:00", False),
        (1767322800, False),
    ],
)
def test_a_fresh_renewal_wakes(renewed: object, expected: bool) -> None:
    assert _requested(_observed(renewed)) is expected


@pytest.mark.parametrize(
    ("desired", "change"),
    [
        (1, {}),
        (0, {"paused": True}),
        (0, {"follows_load": False}),
        (0, {"maximum": 0}),
    ],
)
def test_what_runs_is_paused_or_stopped_is_not_woken(desired: int, change: dict[str, Any]) -> None:
    bounds = dataclasses.replace(BOUNDS, **change)
    assert not _requested(_observed(_ago(0)), bounds=bounds, desired=desired)


def test_a_strangers_lease_wakes_nobody() -> None:
    observed = _observed(_ago(0), controller="uid-of-somebody")
    assert not _requested(observed)


def test_without_a_lease_nothing_wakes() -> None:
    assert not _requested(given.observed(SPEC))


def test_only_a_service_that_may_be_at_zero_has_a_lease() -> None:
    kinds = {manifest["kind"] for manifest in given.rendered(given.observed())}
    assert "Lease" not in kinds


def test_bounds_tell_after_which_idle_time() -> None:
    assert (BOUNDS.minimum, BOUNDS.idle_after) == (0, 300.0)


@pytest.mark.parametrize("hours", [0, 5, -5, -24 * 365 * 7000])
def test_a_renewal_by_any_clock_wakes_for_half_a_minute(hours: int) -> None:
    first, second = _ago(3600.0 * hours + 100), _ago(3600.0 * hours + 99)
    old = activation.noted(_observed(first), None, now=NOW, monotonic=10.0)
    assert not activation.requested(old, BOUNDS, 0, monotonic=10.0)
    new = activation.noted(_observed(second), old, now=NOW, monotonic=40.0)
    assert activation.requested(new, BOUNDS, 0, monotonic=69.0)
    same = activation.noted(_observed(second), new, now=NOW, monotonic=70.0)
    assert not activation.requested(same, BOUNDS, 0, monotonic=70.0)
