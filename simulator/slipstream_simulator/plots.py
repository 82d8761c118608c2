"""Plots of a scenario: load, replicas, latency and attainment over time, one line per policy."""

import itertools
import math
from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from slipstream_simulator import score
from slipstream_simulator.kernel.layout import Floats
from slipstream_simulator.simulation import Run

_MINUTE = 60.0


def plot(runs: Mapping[str, Run], folder: Path) -> Path:
    """Write `<scenario>.png` and return its path; all runs are of one scenario and seed."""
    scenario = next(iter(runs.values())).scenario
    records = next(iter(runs.values())).requests
    with mpl.rc_context({"axes.grid": True, "grid.alpha": 0.3, "font.size": 9}):
        figure = Figure(figsize=(10, 10), layout="constrained")
        load, replicas, latency, attained = figure.subplots(4, 1, sharex=True)
        arrivals = np.bincount(_minute(records["arrival"]), minlength=_minutes(scenario.duration))
        load.plot(arrivals / _MINUTE, color="black")
        load.set_ylabel("requests/s")
        load.set_title(scenario.name)
        times = np.arange(0.0, scenario.duration, 5.0)
        for name, run in runs.items():
            style = {"color": "black", "ls": "--"} if name == "oracle" else {}
            replicas.plot(times / _MINUTE, score.steps(run.ready, times), label=name, **style)
            latency.plot(_p95_by_minute(run), **style)
            good, total = score.minutes(run, score.verdicts(run))
            with np.errstate(invalid="ignore"):
                offset = scenario.warmup / _MINUTE
                attained.plot(np.arange(len(good)) + offset, 100 * good / total, **style)
        replicas.set_ylabel("ready replicas")
        replicas.legend(ncols=4, fontsize=7)
        latency.set_ylabel("TTFT p95 (s)")
        latency.set_yscale("log")
        attained.set_ylabel("attained (%)")
        attained.set_xlabel("minutes")
        path = folder / f"{scenario.name}.png"
        figure.savefig(path, dpi=110)
    return path


def _minutes(duration: float) -> int:
    return math.ceil(duration / _MINUTE)


def _minute(times: Floats) -> np.ndarray:
    return (times / _MINUTE).astype(np.int64)


def _p95_by_minute(run: Run) -> Floats:
    """Return percentiles by minute of arrival; requests without a first token waited until they gave up or the end."""
    arrival = run.requests["arrival"]
    first = run.requests["first"]
    given_up = np.fmin(run.requests["finished"], run.scenario.duration)
    waited = np.where(np.isnan(first), given_up, first) - arrival
    minute = _minute(arrival)
    edges = np.searchsorted(minute, np.arange(_minutes(run.scenario.duration) + 1))
    return np.array(
        [
            float(np.quantile(waited[low:high], 0.95)) if high > low else math.nan
            for low, high in itertools.pairwise(edges)
        ]
    )
