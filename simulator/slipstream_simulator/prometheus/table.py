"""Samples of targets that are scraped together, in one array."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from slipstream_simulator.kernel.layout import Floats
from slipstream_simulator.prometheus.catalogue import Field, Labels
from slipstream_simulator.prometheus.span import Span


class Table:
    """Rows are scrapes, columns targets, the third axis their series; a vanished target's column is used again."""

    def __init__(self, fields: Sequence[Field], *, rows: int, keep: int) -> None:
        self.fields = tuple(fields)
        self.targets: list[Labels] = []
        self.version = 0
        """Changes with the targets."""
        self.times: Floats = np.zeros(rows)
        self.rows = 0
        self._keep = keep
        self._column: dict[str, int] = {}
        self._last: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._names: list[str] = []
        self._columns = self._last
        """The targets of the newest scrape, and their columns."""
        self.values: Floats = np.full((rows, 0, len(fields)), np.nan)
        self.totals: Floats = self.values
        """Counters without their resets, so that an increase is a difference."""
        self.present: NDArray[np.bool_] = np.zeros((rows, 0), dtype=np.bool_)
        self._reserved: dict[float, list[int]] = {}
        self._spans: dict[float, Span] = {}
        self._moment = (math.nan, -1, 0)

    def append(
        self, now: float, names: Sequence[str], targets: Sequence[Labels], values: Floats
    ) -> None:
        """Add a scrape; targets that are not in it are absent."""
        row = self.rows
        self.times[row] = now
        self.rows += 1
        if not names:
            return
        if names != self._names:
            self._names = list(names)
            self._columns = np.array(
                [self._place(name, labels) for name, labels in zip(names, targets, strict=True)]
            )
        columns = self._columns
        last = self._last[columns]
        self.values[row, columns] = values
        before, totals = self.values[last, columns], self.totals[last, columns]
        fresh = np.where(values >= before, values - before, values)
        known = (last >= 0)[:, None] & np.isfinite(before)
        self.totals[row, columns] = np.where(known, totals + fresh, values)
        self.present[row, columns] = True
        self._last[columns] = row

    def reserve(self, seconds: float, fields: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the position of these fields' increases over `seconds` among those of a span."""
        reserved = self._reserved.setdefault(seconds, [])
        reserved += [one for one in fields.tolist() if one not in reserved]
        return np.array([reserved.index(one) for one in fields.tolist()], dtype=np.int64)

    def span(self, now: float, row: int, seconds: float) -> Span:
        """Return the rows in (now - seconds, now], up to the newest visible row."""
        moment = now, row, self.version
        if self._moment != moment:
            self._spans.clear()
            self._moment = moment
        found = self._spans.get(seconds)
        if found is None:
            end = row + 1
            start = int(np.searchsorted(self.times[:end], now - seconds, side="right"))
            width = len(self.targets)
            there = self.present[start:end, :width]
            found = self._spans[seconds] = Span(
                times=self.times,
                values=self.values,
                totals=self.totals,
                there=there,
                rows=slice(start, end),
                fields=np.array(self._reserved.get(seconds, []), dtype=np.int64),
                now=now,
                seconds=seconds,
            )
        return found

    def _place(self, name: str, labels: Labels) -> int:
        column = self._column.get(name)
        if column is None:
            column = self._vacate()
            self._column[name] = column
            self.targets[column] = labels
            self.version += 1
        return column

    def _vacate(self) -> int:
        """Return a column whose target is out of every window, or a new column."""
        for name, column in self._column.items():
            # NB: -1 is a target of this very scrape.
            if 0 <= self._last[column] < self.rows - 1 - self._keep:
                del self._column[name]
                self.present[:, column] = False
                self._last[column] = -1
                return column
        if len(self.targets) == self.present.shape[1]:
            self._widen()
        self.targets.append({})
        self._last = np.append(self._last, -1)
        return len(self.targets) - 1

    def _widen(self) -> None:
        width = max(4, self.present.shape[1])
        rows = len(self.times)
        more = np.full((rows, width, len(self.fields)), np.nan)
        self.values = np.concatenate([self.values, more], axis=1)
        self.totals = np.concatenate([self.totals, more], axis=1)
        self.present = np.concatenate(
            [self.present, np.zeros((rows, width), dtype=np.bool_)], axis=1
        )
