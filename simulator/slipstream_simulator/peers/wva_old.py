"""WVA 0.0.2 ("inferno"): completions divided by the rate that a queueing model allows; its profile is perfect here."""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from slipstream_operator.core.scaling.metrics.promql import Expression, Over, Series
from slipstream_operator.core.scaling.metrics.values import Unknown
from slipstream_runtime import contract
from slipstream_runtime.simulator import model
from slipstream_simulator import readings
from slipstream_simulator.peers import wva
from slipstream_simulator.peers.queueing import Profile, Queue
from slipstream_simulator.policy import FleetView, Policy

_BATCH: Final = 256
"""Hard-coded there."""
_GRID: Final = 1.02
"""Lengths are rounded to steps of 2 %, so that the same queue is not solved again at each tick."""


@dataclass
class Inferno:
    """Takes completions for arrivals, and objectives, which are percentiles, for means."""

    engine: model.Parameters
    share: float
    """Share of the objectives to stay below: the parameter that is tuned."""
    every: float = 60.0
    _begun: bool = False
    """False until a first completion: a fleet that was just made has none, which means nothing."""

    def queries(self) -> Mapping[str, Expression]:
        """Completions and lengths of one minute, of all pods."""
        done = readings.summed(Over("rate", Series(contract.REQUEST_SUCCESS), 60.0))
        return {
            "completions": done,
            "prompt": readings.mean(readings.PROMPTS, 60.0),
            "output": readings.mean(readings.OUTPUTS, 60.0),
        }

    def desired(self, view: FleetView, last: int) -> int:
        """Once there were completions, a minute without any is one without load, as shipped."""
        rate, prompt, output = (readings.value_or_zero(view, name) for name in self.queries())
        if isinstance(rate, Unknown) or isinstance(prompt, Unknown) or isinstance(output, Unknown):
            return last
        if not rate or not output:
            return 1 if self._begun else last
        self._begun = True
        ttft, tpot = (readings.target(view.objectives, metric) for metric in ("ttft", "tpot"))
        one = _largest_rate(
            self.engine, _rounded(prompt), _rounded(output), ttft * self.share, tpot * self.share
        )
        return max(1, math.ceil(rate / one))

    def restarted(self) -> None:
        """It keeps nothing."""


@functools.lru_cache(maxsize=4096)
def _largest_rate(
    engine: model.Parameters, prompt: float, output: float, ttft: float, itl: float
) -> float:
    profile = Profile.perfect(engine, prompt, output, batch=_BATCH)
    return Queue(profile, prompt=prompt, output=output).largest_rate(ttft=ttft, itl=itl)


def _rounded(length: float) -> float:
    return float(_GRID ** round(math.log(max(1.0, length)) / math.log(_GRID)))


def shipped(engine: model.Parameters, share: float) -> Policy:
    """With the chart's HPA."""
    return wva.Pipeline("wva-old", Inferno(engine, share))


def without_window(engine: model.Parameters, share: float) -> Policy:
    """With an HPA that does not wait."""
    return wva.Pipeline("wva-old-no-window", Inferno(engine, share), window=0.0)
