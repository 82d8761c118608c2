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
    """Collector of the numbers of draft tokens in use, their gain, and the counts of steps."""

    def __init__(self, tally: gain.Tally) -> None:
        self._tally = tally

    def collect(self) -> Iterable[Metric]:
        """Return the present values, without a gain while it is unknown."""
        overall = GaugeMetricFamily(
            contract.SPECULATION_GAIN,
            "Recent output tokens per second of decoding, over those that the same engine makes without draft tokens.",
        )
        if (found := self._tally.gain) is not None:
            overall.add_metric([], found)
        chosen = GaugeMetricFamily(
            contract.SPECULATION_TOKENS,
            "Draft tokens per request and step in use, for up to `batch` requests and more than half of that.",
            labels=[contract.BATCH_LABEL],
        )
        earned = GaugeMetricFamily(
            contract.SPECULATION_BATCH_GAIN,
            "Gain of these draft tokens at this batch size, as in the gain over all batch sizes.",
            labels=[contract.BATCH_LABEL],
        )
        for size, (tokens, gained) in self._tally.choices().items():
            chosen.add_metric([str(2**size)], tokens)
            if gained is not None:
                earned.add_metric([str(2**size)], gained)
        yield from (overall, chosen, earned)
        table = self._tally.table.copy()
        for column, (name, text) in enumerate(_COUNTERS.items()):
            family = CounterMetricFamily(name, text, labels=["tokens", contract.BATCH_LABEL])
            for size, drafted in np.argwhere(table[:, :, gain.STEPS]).tolist():
                if not math.isnan(value := float(table[size, drafted, column])):
                    family.add_metric([str(drafted), str(2**size)], value)
            yield family


_COUNTERS: Final = {
    contract.SAMPLED_STEPS: "Steps of decoding only, by draft tokens per request, for up to `batch` requests and more "
    "than half of that.",
    contract.SAMPLED_TOKENS: "Output tokens of these steps.",
    contract.SAMPLED_SECONDS: "Seconds that these steps took.",
    contract.SAMPLED_DRAFTING: "Seconds of these steps spent on drafting; absent where drafting is not measured.",
}
