"""Conversion of durations, quantities and percentages from users' strings to numbers."""

import datetime
import functools
import re
from decimal import Decimal
from typing import Final

DURATION_PATTERN: Final = "^(([0-9]{1,6}([.][0-9]*)?|[.][0-9]+)(h|m|s|[mun\u00b5\u03bc]s)){1,6}$"
"""Durations as Go writes them, such as 0.5s and 1m30s, without a sign."""
FINE_DURATION_PATTERN: Final = "^[0-9]{1,6}([.][0-9]{1,6})?(s|ms|us|ns)$"

PERCENTAGE_PATTERN: Final = "^(100|[0-9]{1,2}([.][0-9]{1,2})?)%$"
MONEY_PATTERN: Final = "^[0-9]{1,7}([.][0-9]{1,6})?$"

_SECONDS: Final = {
    "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3,
    "us": 1e-6, "\u00b5s": 1e-6, "\u03bcs": 1e-6, "ns": 1e-9,
}  # fmt: skip
_TERM: Final = re.compile("([0-9]+[.]?[0-9]*|[.][0-9]+)(ms|us|\u00b5s|\u03bcs|ns|h|m|s)")
_QUANTITY: Final = re.compile(
    r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))([eE][+-]?[0-9]{1,3}|[numkMGTPE]|[KMGTPE]i)?"
)
_FACTORS: Final = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1),
    "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12),
    "P": Decimal(10**15), "E": Decimal(10**18),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40),
    "Pi": Decimal(2**50), "Ei": Decimal(2**60),
}  # fmt: skip


def seconds(duration: str) -> float:
    """Return seconds, such as 5400.0 for `1h30m`. Raise ValueError if the text is not a duration."""
    parts = _TERM.findall(duration)
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        raise ValueError(f'"{duration}" is not a duration. Use a value such as 500ms, 2s or 1h30m.')
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def share(percentage: str) -> float:
    """Return the share, such as 0.3 for `30%`. Raise ValueError if the text is not a percentage."""
    if re.fullmatch(PERCENTAGE_PATTERN, percentage) is None:
        raise ValueError(f'"{percentage}" is not a percentage. Use a value such as 30% or 99.9%.')
    return float(percentage.removesuffix("%")) / 100


def quantity(text: str) -> Decimal:
    """Return the number, such as 2147483648 for `2Gi`. Raise ValueError if the text is not a Kubernetes quantity."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text}" is not a quantity. Use a value such as 500m, 4 or 16Gi.')
    number, suffix = match.group(1), match.group(2) or ""
    if suffix[:1] in ("e", "E") and len(suffix) > 1 and suffix[1:].lstrip("+-").isdigit():
        return Decimal(number + suffix)
    return Decimal(number) * _FACTORS[suffix]


def money(text: str) -> Decimal:
    """Return the amount of money. Raise ValueError if the text is not an amount such as `2.50`."""
    if re.fullmatch(MONEY_PATTERN, text) is None:
        raise ValueError(
            f'"{text}" is not an amount of money. Use a value such as "2.50", without a currency.'
        )
    return Decimal(text)


def format_seconds(value: float) -> str:
    """Return a short duration for status and messages: `85ms`, `1.25s`, `12s`."""
    if value < 0.001:
        return f"{value * 1e3:.2f}ms"
    if value < 1:
        return f"{value * 1e3:.0f}ms"
    return f"{value:.2f}s" if value < 10 else f"{value:.0f}s"


def timestamp(seconds_since_epoch: float) -> str:
    """Return the time in RFC 3339, in UTC and whole seconds, as Kubernetes writes it."""
    moment = datetime.datetime.fromtimestamp(seconds_since_epoch, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@functools.lru_cache(maxsize=65536)
def moment(timestamp: str) -> float:
    """Return seconds since the epoch for a time in RFC 3339. Raise ValueError if it is not a time."""
    return datetime.datetime.fromisoformat(timestamp).timestamp()
