"""Metrics that only the vLLM engine exports, beside vLLM's own. Those of every engine are in `host/metrics.py`.

Their names are in `contract`.
"""

import math
from collections.abc import Iterable
from typing import Final

import numpy as np
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from slipstream_runtime import contract
from slipstream_runtime.engine import gain


class GainMetrics(Collector):
    """Collector of the gain and the counts that it is computed from."""

    def __init__(self, tally: gain.Tally) -> None:
        self._tally = tally

    def collect(self) -> Iterable[Metric]:
        """Return the present values, without a gain while it is unknown."""
        upper = GaugeMetricFamily(
            contract.SPECULATION_GAIN,
            "Upper bound of the recent gain: output tokens per second with speculation, over those without.",
        )
        if (found := gain.estimate(self._tally.recent.copy())) is not None:
            upper.add_metric([], found)
        yield upper
        table = self._tally.ever.copy()
        for column, (name, text) in enumerate(_COUNTERS.items()):
            family = CounterMetricFamily(name, text, labels=["speculation", "batch"])
            for mode, row in gain.MODES.items():
                for size in np.flatnonzero(table[row, :, gain.STEPS]):
                    if not math.isnan(value := float(table[row, size, column])):
                        family.add_metric([mode, str(2**size)], value)
            yield family


_COUNTERS: Final = {
    contract.SAMPLED_STEPS: "Steps of decoding only, in windows without speculation (off) and beside them (on), for up "
    "to `batch` requests and more than half of that.",
    contract.SAMPLED_TOKENS: "Output tokens of these steps.",
    contract.SAMPLED_SECONDS: "Seconds that these steps took.",
    contract.SAMPLED_DRAFTING: "Seconds of these steps spent on drafting; absent where drafting is not measured.",
}
