"""Running totals of one measure of one revision, as routers count them."""

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Totals:
    """Number of values, their sum and the sum of their squares."""

    count: float = 0.0
    total: float = 0.0
    squares: float = 0.0
    freedom: float | None = None
    """Degrees of freedom of the variance; None: the number of values less 1."""

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(
            self.count + other.count, self.total + other.total, self.squares + other.squares
        )

    def __sub__(self, other: "Totals") -> "Totals":
        return Totals(
            self.count - other.count, self.total - other.total, self.squares - other.squares
        )

    @classmethod
    def of(cls, count: float, *, mean: float, variance: float, freedom: float) -> "Totals":
        """Return the totals of values with this mean and unbiased variance."""
        squares = max(0.0, count - 1) * variance + count * mean * mean
        return cls(count, count * mean, squares, freedom)

    def scaled(self, factor: float) -> "Totals":
        """Return the totals of a multiple of the values, with the same mean and variance."""
        if self.count <= 1.0:
            return Totals(self.count * factor, self.total * factor, self.squares * factor)
        freedom = self.count - 1.0 if self.freedom is None else self.freedom
        count = self.count * factor
        return Totals.of(count, mean=self.mean, variance=self.variance, freedom=freedom)

    @property
    def mean(self) -> float:
        """Return the mean; there must be a value."""
        return self.total / self.count

    @property
    def variance(self) -> float:
        """Return the unbiased variance; there must be two values."""
        centered = self.squares - self.total * self.mean
        return max(0.0, centered) / (self.count - 1)
