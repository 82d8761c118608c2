"""Activation: a Lease that the router renews wakes a service that is at zero, and nothing else does."""

import dataclasses
import datetime
from typing import Any

import pytest

from slipstream_operator.core import activation
from slipstream_operator.core.observed import Observed
from tests.support import given

SPEC: dict[str, Any] = {
    "model": given.MODEL,
    "scaling": {"minReplicas": 0, "idleAfter": "5m", "maxReplicas": 2},
}
NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC).timestamp()
BOUNDS = given.resolved(SPEC).bounds


def _observed(renewed: object, *, controller: str = given.UID) -> Observed:
    lease = given.find(given.rendered(given.observed(SPEC)), "Lease")
    spec = {} if renewed is None else {"spec": {"renewTime": renewed}}
    return given.observed(SPEC, children=[given.child({**lease, **spec}, controller=controller)])


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
    ],
)
def test_a_fresh_renewal_wakes(renewed: object, expected: bool) -> None:
    assert activation.requested(_observed(renewed), BOUNDS, 0, now=NOW) is expected


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
    assert not activation.requested(_observed(_ago(0)), bounds, desired, now=NOW)


def test_a_strangers_lease_wakes_nobody() -> None:
    observed = _observed(_ago(0), controller="uid-of-somebody")
    assert not activation.requested(observed, BOUNDS, 0, now=NOW)


def test_without_a_lease_nothing_wakes() -> None:
    assert not activation.requested(given.observed(SPEC), BOUNDS, 0, now=NOW)


def test_only_a_service_that_may_be_at_zero_has_a_lease() -> None:
    kinds = {manifest["kind"] for manifest in given.rendered(given.observed())}
    assert "Lease" not in kinds


def test_bounds_tell_after_which_idle_time() -> None:
    assert (BOUNDS.minimum, BOUNDS.idle_after) == (0, 300.0)
