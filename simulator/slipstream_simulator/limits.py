"""Latency limits of each kind of request, in seconds."""

import math
from collections.abc import Mapping
from typing import Final

import numpy as np

from slipstream_simulator import traffic
from slipstream_simulator.kernel.layout import Floats
from slipstream_simulator.scenario import Scenario

_METRICS: Final = ("ttft", "tpot", "e2e")


def of(scenario: Scenario) -> tuple[Mapping[str, float], ...]:
    """By kind: metric -> limit. A deadline is for the whole answer, in place of the objectives.

    The limit of a metric is that of its highest percentile: the first that is given.
    """
    strictest: dict[str, float] = {}
    for one in scenario.objectives.latency:
        strictest.setdefault(one.metric, one.target)
    return tuple(
        strictest if kind.deadline is None else {"e2e": kind.deadline}
        for kind in traffic.kinds(scenario)
    )


def table(scenario: Scenario) -> Floats:
    """The same as kinds x (TTFT, TPOT, E2E), inf where there is none."""
    return np.array([[one.get(name, math.inf) for name in _METRICS] for one in of(scenario)])
