"""Latency limits of each kind of request, in seconds."""

import math
from collections.abc import Mapping
from typing import Final

import numpy as np

from slipstream_simulator import traffic
from slipstream_simulator.kernel.layout import Floats
from slipstream_simulator.scenarios import Scenario

_METRICS: Final = ("ttft", "tpot", "e2e")


def of(scenario: Scenario) -> tuple[Mapping[str, float], ...]:
    """Map each metric to its limit, for each kind of request; a deadline limits the whole answer instead.

    The limit of a metric is the one of its highest percentile, which comes first.
    """
    strictest: dict[str, float] = {}
    for one in scenario.objectives.latency:
        strictest.setdefault(one.metric, one.target)
    return tuple(
        strictest if kind.deadline is None else {"e2e": kind.deadline}
        for kind in traffic.kinds(scenario)
    )


def table(scenario: Scenario) -> Floats:
    """Return the limits as an array of kinds x (TTFT, TPOT, E2E), with infinity for no limit."""
    return np.array([[one.get(name, math.inf) for name in _METRICS] for one in of(scenario)])
