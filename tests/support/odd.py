"""Values that no honest program writes: extreme numbers, wrong types, long texts and deep nesting.

A seed gives the same values each time, and thousands of them within a second.
"""

import random
from collections.abc import Sequence
from typing import Any, Final

NUMBERS: Final = (
    0, 1, 2, 3, 7, 16, 64, 1000, 1001, 10**9, 10**9 + 1, 2**31, 2**63, 10**30, -1, -(2**63),
    0.5, 5e-324, 1e-12, 1e15, 1e16, 1e308, float("inf"), float("-inf"), float("nan"), -0.0,
)  # fmt: skip
TEXTS: Final = (
    "", "16", "²", "9" * 5000, "1_0", "NaN", "+Inf", "abc", "fp8", "yarn", "bfloat16", "\x00", "\x1b[2J",
    "../../etc", "full_attention", "sliding_attention", "linear_attention", "chunked_attention", "mamba",
)  # fmt: skip
_DEEPEST: Final = 4


class Odd:
    """Source of odd values; `keys` are the names of fields that a reader looks for."""

    def __init__(self, seed: int, *, keys: Sequence[str] = ("x",)) -> None:
        self.random = random.Random(seed)
        self._keys = keys

    def number(self) -> Any:
        """Return a number."""
        if self.random.random() < 0.5:
            return self.random.choice(NUMBERS)
        return self.random.randrange(10 ** self.random.randrange(1, 10))

    def value(self, depth: int = 0) -> Any:
        """Return a value of any type that JSON has."""
        kind = self.random.randrange(10)
        if kind < 4:
            return self.number()
        if kind < 6:
            return self.random.choice(TEXTS)
        if kind == 6:
            return self.random.choice((True, False, None))
        if depth >= _DEEPEST:
            return []
        count = self.random.randrange(4)
        if kind == 7:
            return [self.value(depth + 1) for _ in range(count)]
        if kind == 8:
            return {self.random.choice(self._keys): self.value(depth + 1) for _ in range(count)}
        return [self.random.choice(TEXTS[-6:])] * self.random.choice((0, 1, 32, 36, 5000))

    def changed(self, good: dict[str, Any]) -> dict[str, Any]:
        """Return the object with some of its fields, at any depth, replaced by odd values."""
        found = dict(good)
        for _ in range(self.random.randrange(1, 6)):
            key = self.random.choice([*found, *self._keys])
            inner = found.get(key)
            deeper = isinstance(inner, dict) and inner and self.random.random() < 0.7
            found[key] = self.changed(inner) if deeper else self.value()
        return found
