"""Durations, quantities and timestamps: what users write, and what they are shown."""

from decimal import Decimal

import pydantic
import pytest

from slipstream_operator.api import pod, units
from slipstream_operator.api.base import ApiModel, Duration


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("500ms", 0.5),
        ("2s", 2.0),
        ("1h30m", 5400.0),
        ("1m0s500ms", 60.5),
        ("20us", 20e-6),
        ("60ns", 60e-9),
        ("1.5s", 1.5),
        (".5s", 0.5),
        ("1.s", 1.0),
        ("1h2m3.5s", 3723.5),
        ("1500\u00b5s", 0.0015),
        ("1500\u03bcs", 0.0015),
    ],
)
def test_a_duration_is_seconds(text: str, expected: float) -> None:
    assert units.seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text", ["", "5", "s", "1x", "1s ", " 1s", "-1s", "1s-2s", "1,5s", "1h 2m"]
)
def test_what_is_no_duration_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=f'^"{text}" is not a duration. Use a value such as 500ms'):
        units.seconds(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2Gi", Decimal(2**31)),
        ("500m", Decimal("0.5")),
        ("4", Decimal(4)),
        ("1.5", Decimal("1.5")),
        (".5", Decimal("0.5")),
        ("16.Gi", Decimal(2**34)),
        ("1k", Decimal(1000)),
        ("1e3", Decimal(1000)),
        ("1E3", Decimal(1000)),
        ("1E", Decimal(10**18)),
        ("1Ei", Decimal(2**60)),
        ("100n", Decimal("1e-7")),
        ("+1M", Decimal(10**6)),
    ],
)
def test_a_quantity_is_a_number(text: str, expected: Decimal) -> None:
    assert units.quantity(text) == expected


@pytest.mark.parametrize("text", ["", "Gi", "1 Gi", "1KI", "1gi", "one", "1e", "0x10"])
def test_what_is_no_quantity_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=f'^"{text}" is not a quantity. Use a value such as 500m'):
        units.quantity(text)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, "0.00ms"),
        (0.00025, "0.25ms"),
        (0.085, "85ms"),
        (1.25, "1.25s"),
        (12.3, "12s"),
        (300.0, "300s"),
    ],
)
def test_people_are_shown_short_durations(seconds: float, expected: str) -> None:
    assert units.format_seconds(seconds) == expected


def test_a_timestamp_is_utc_to_the_second() -> None:
    assert units.timestamp(1767323045.9) == "2026-01-02T03:04:05Z"


class Waits(ApiModel):
    time: Duration


@pytest.mark.parametrize(
    "text", ["0.5s", "1m30s", ".5s", "1.s", "1500us", "1500\u00b5s", "1h2m3.5s"]
)
def test_a_field_takes_the_durations_that_go_takes(text: str) -> None:
    assert Waits.model_validate({"time": text}).time == text


@pytest.mark.parametrize("text", ["0s", "0.0ms", "2", "-1s", "1e3s", "1d", "."])
def test_a_field_takes_no_other_durations(text: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=f'"{text}" '):
        Waits.model_validate({"time": text})


@pytest.mark.parametrize(
    ("given", "stored"), [(4, "4"), ("4", "4"), (0.5, "0.5"), ("500m", "500m"), (1e9, "1000000000")]
)
def test_a_quantity_is_a_number_or_text(given: object, stored: str) -> None:
    resources = pod.Resources.model_validate({"requests": {"cpu": given}})
    assert resources.requests == {"cpu": stored}


@pytest.mark.parametrize("given", [0, -1, "0", "lots", True, None])
def test_a_quantity_that_is_not_above_zero_is_refused(given: object) -> None:
    with pytest.raises(pydantic.ValidationError):
        pod.Resources.model_validate({"requests": {"cpu": given}})
