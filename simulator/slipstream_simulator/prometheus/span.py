"""Range of samples, as `[5m]` selects it."""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slipstream_simulator.kernel.layout import Floats


@dataclass(eq=False)
class Span:
    """Samples of the last `seconds`, computed once for all queries of this moment."""

    times: Floats
    """Times of all rows."""
    values: Floats
    totals: Floats
    there: NDArray[np.bool_]
    """Rows of the span x targets: whether the target was scraped."""
    rows: slice
    fields: NDArray[np.int64]
    """Fields whose increases are needed."""
    now: float
    seconds: float

    @functools.cached_property
    def count(self) -> NDArray[np.int64]:
        """Return the number of samples of each target."""
        found: NDArray[np.int64] = self.there.sum(axis=0)
        return found

    @functools.cached_property
    def increases(self) -> Floats:
        """Return the increases of counters as targets x `fields`; undefined for targets with fewer than two samples.

        Extrapolated to the edges of the span as Prometheus does (promql/functions.go, extrapolatedRate).
        """
        length, width = self.there.shape
        if length < 2 or not width:
            return np.zeros((width, len(self.fields)))
        first = self.rows.start + self.there.argmax(axis=0)
        last = self.rows.stop - 1 - self.there[::-1].argmax(axis=0)
        columns = np.arange(width)[:, None]
        first_row, last_row = first[:, None], last[:, None]
        before = self.values[first_row, columns, self.fields]
        growth = (
            self.totals[last_row, columns, self.fields]
            - self.totals[first_row, columns, self.fields]
        )
        sampled = self.times[last] - self.times[first]
        spacing = sampled / np.maximum(1, self.count - 1)
        to_start = self.times[first] - (self.now - self.seconds)
        to_start = np.where(to_start >= 1.1 * spacing, spacing / 2, to_start)[:, None]
        to_end = self.now - self.times[last]
        to_end = np.where(to_end >= 1.1 * spacing, spacing / 2, to_end)[:, None]
        span = sampled[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            to_zero = np.where(growth > 0, span * before / growth, np.inf)
            factor = (span + np.minimum(to_start, to_zero) + to_end) / span
            increases: Floats = growth * factor
        return increases
