"""Window of values of the last seconds."""

from collections import deque
from dataclasses import dataclass, field


@dataclass
class Window:
    """Values with their times; `add` drops values that are `seconds` old or older."""

    seconds: float
    entries: deque[tuple[float, float]] = field(default_factory=deque)

    def add(self, now: float, value: float) -> None:
        """Add a value."""
        self.entries.append((now, value))
        while self.entries[0][0] <= now - self.seconds:
            self.entries.popleft()

    def values(self, now: float, seconds: float | None = None) -> list[float]:
        """Return the values of the last `seconds` (all values if None), the oldest first."""
        start = now - (self.seconds if seconds is None else seconds)
        return [value for time, value in self.entries if time > start]

    def mean(self, now: float, seconds: float | None = None) -> float:
        """Return the mean of the values; 0 without values."""
        values = self.values(now, seconds)
        return sum(values) / len(values) if values else 0.0

    def clear(self) -> None:
        """Drop all values."""
        self.entries.clear()
