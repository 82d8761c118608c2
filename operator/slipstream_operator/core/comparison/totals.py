"""Running totals of one measure of one revision, as routers count them."""

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Totals:
    """Number of values, their sum and the sum of their squares."""

    count: float = 0.0
    total: float = 0.0
    squares: float = 0.0

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(
            self.count + other.count, self.total + other.total, self.squares + other.squares
        )

    def __sub__(self, other: "Totals") -> "Totals":
        return Totals(
            self.count - other.count, self.total - other.total, self.squares - other.squares
        )

    @property
    def mean(self) -> float:
        """Return the mean; there must be a value."""
        return self.total / self.count

    @property
    def variance(self) -> float:
        """Return the unbiased variance; there must be two values."""
        centered = self.squares - self.total * self.mean
        return max(0.0, centered) / (self.count - 1)
