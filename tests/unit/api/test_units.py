"""Durations, quantities and timestamps: what users write, and what they are shown."""

from decimal import Decimal

import pytest

from slipstream_operator.api import units


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
