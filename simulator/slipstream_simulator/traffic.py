"""Requests of a scenario: the same for every policy, with a random generator for each part and purpose."""

import csv
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from slipstream_simulator.kernel import fleet
from slipstream_simulator.kernel.layout import Floats, Records
from slipstream_simulator.scenarios import (
    API_VERSION,
    Arrivals,
    Lengths,
    Scenario,
    ScenarioError,
    Traffic,
    parse,
)

_GRID_SECONDS: Final = 1.0
_TIMES, _PROMPTS, _OUTPUTS, _MARKS, _DRIFT = range(5)
COLUMNS: Final = ("time", "prompt", "output")


@dataclass(frozen=True)
class Kind:
    """Kind of requests that the engines and the score treat alike."""

    priority: int
    deadline: float | None


def kinds(scenario: Scenario) -> tuple[Kind, ...]:
    """Return the kinds of a scenario, the most urgent first."""
    found = {Kind(piece.priority, piece.deadline) for piece in scenario.traffic}
    return tuple(sorted(found, key=lambda kind: (-kind.priority, kind.deadline or math.inf)))


def generator(seed: int, *purpose: int) -> np.random.Generator:
    """Return a random generator that only this purpose uses."""
    return np.random.default_rng([seed, *purpose])


def requests(scenario: Scenario, *, seed: int) -> Records:
    """Return all requests in order of arrival; each caller gets its own copy."""
    return _drawn(scenario, seed).copy()


@functools.lru_cache(maxsize=2)
def _drawn(scenario: Scenario, seed: int) -> Records:
    order = {kind: index for index, kind in enumerate(kinds(scenario))}
    pieces = [
        _piece(scenario, piece, order[Kind(piece.priority, piece.deadline)], seed=seed, index=index)
        for index, piece in enumerate(scenario.traffic)
    ]
    if len(pieces) == 1:
        return pieces[0]  # in order as it is drawn
    records = np.concatenate(pieces)
    ordered: Records = records[np.argsort(records["arrival"], kind="stable")]
    return ordered


def _piece(scenario: Scenario, piece: Traffic, kind: int, *, seed: int, index: int) -> Records:
    if piece.arrivals.file is not None:
        times, prompt, output = read_trace(piece.arrivals.file)
        kept = times < scenario.duration
        times, prompt, output = times[kept], prompt[kept], output[kept]
    else:
        times = _times(piece.arrivals, scenario.duration, seed=seed, index=index)
        prompt = output = np.ones(len(times), dtype=np.int64)
    if piece.prompt is not None:
        prompt = _lengths(piece.prompt, times, generator(seed, index, _PROMPTS))
    if piece.output is not None:
        output = _lengths(piece.output, times, generator(seed, index, _OUTPUTS))
    # A server would refuse requests that don't fit the engine's KV cache.
    prompt = np.minimum(prompt, scenario.engine.kv_tokens - 1)
    output = np.minimum(output, scenario.engine.kv_tokens - prompt + 1)
    marks = generator(seed, index, _MARKS)
    prefix = piece.prefix
    return fleet.requests(
        times,
        prompt,
        output,
        luck=marks.random(len(times)),
        pinned=marks.random(len(times)) < piece.affinity,
        shared=np.minimum(prompt * prefix.share, prompt - 1) if prefix else np.zeros(len(times)),
        hit=np.full(len(times), prefix.hit_rate if prefix else 0.0),
        warmup=np.full(len(times), prefix.warmup if prefix else 0.0),
        kind=np.full(len(times), kind),
    )


def rate(arrivals: Arrivals, times: Floats, *, seed: int = 0, index: int = 0) -> Floats:
    """Return the requests per second at these times; with drift, the times must be evenly spaced."""
    if arrivals.diurnal is not None:
        day = arrivals.diurnal
        wave = np.cos(2 * math.pi * (times - day.peak_at) / day.period)
        values = day.trough + (day.peak - day.trough) * (1 + wave) / 2
    else:
        values = _interpolate(arrivals.rate or 0.0, times)
    if arrivals.scale is not None:
        values = values * _interpolate(arrivals.scale, times)
    if arrivals.drift is not None:
        sd = arrivals.drift.sd
        keep = math.exp(-_GRID_SECONDS / arrivals.drift.tau)
        shocks = generator(seed, index, _DRIFT).standard_normal(len(times))
        state, path = sd * shocks[0], np.empty(len(times))
        for step, shock in enumerate(shocks * sd * math.sqrt(1 - keep * keep)):
            state = keep * state + shock
            path[step] = state
        values = values * np.exp(path - sd * sd / 2)
    return values


def expected(scenario: Scenario) -> float:
    """Return the expected number of requests without those of files, as an estimate of a run's cost."""
    times: Floats = np.arange(0.0, scenario.duration, 60.0).astype(np.float64)
    pieces = [piece.arrivals for piece in scenario.traffic if piece.arrivals.file is None]
    return float(sum(60.0 * rate(one, times).sum() for one in pieces))


def _interpolate(points: float | Sequence[tuple[float, float]], times: Floats) -> Floats:
    if isinstance(points, int | float):
        return np.full(len(times), float(points))
    moments, values = zip(*points, strict=True)
    interpolated: Floats = np.interp(times, moments, values)
    return interpolated


def _times(arrivals: Arrivals, duration: float, *, seed: int, index: int) -> Floats:
    """Draw a renewal process with intervals of mean 1, mapped through the integral of the rate."""
    grid = np.linspace(0.0, duration, max(2, math.ceil(duration / _GRID_SECONDS) + 1))
    rates = rate(arrivals, grid, seed=seed, index=index)
    passed = np.concatenate([[0.0], np.cumsum((rates[1:] + rates[:-1]) / 2 * np.diff(grid))])
    expected = passed[-1]
    draws = generator(seed, index, _TIMES)
    cv = _interpolate(arrivals.cv, grid) if arrivals.process == "gamma" else np.ones(len(grid))
    if arrivals.process == "even":
        moments = np.arange(0.5, expected)
    else:
        spare = 10 * float(cv.max()) * math.sqrt(expected + 1) + 10 * float(cv.max()) ** 2
        count = math.ceil(expected + spare)
        # NB: the shape follows the time at which an interval would be on average.
        shape = 1 / np.interp(np.interp(np.arange(count), passed, grid), grid, cv) ** 2
        moments = np.cumsum(draws.gamma(shape, 1 / shape))
    moments = moments[moments < expected]
    times: Floats = np.interp(moments, passed, grid)
    return times


def _lengths(lengths: Lengths, times: Floats, draws: np.random.Generator) -> NDArray[np.int64]:
    """Draw whole numbers of tokens, at least 1; between two points, the share of the later one grows."""
    points = lengths if isinstance(lengths, tuple) else ((0.0, lengths),)
    columns = [
        np.clip(np.rint(length.draw(draws, len(times))), 1, length.max) for _, length in points
    ]
    position = np.interp(times, [moment for moment, _ in points], np.arange(len(points)))
    chosen = np.floor(position + draws.random(len(times))).astype(np.int64)
    chosen = np.minimum(chosen, len(points) - 1)
    picked: NDArray[np.int64] = np.array(columns, dtype=np.int64)[chosen, np.arange(len(times))]
    return picked


def read_trace(path: Path) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Return arrivals in seconds after the first, and the prompt and output tokens, from a CSV file."""
    rows: list[tuple[float, int, int]] = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise ScenarioError(
                    f"{path}: column {', '.join(missing)} is missing: the first line must name {','.join(COLUMNS)}"
                )
            for row in reader:
                try:
                    one = (float(row["time"]), int(row["prompt"]), int(row["output"]))
                except (TypeError, ValueError) as error:
                    raise ScenarioError(
                        f"{path}: line {reader.line_num}: {','.join(str(row[c]) for c in COLUMNS)}: "
                        "give seconds and two whole numbers of tokens"
                    ) from error
                if one[1] < 1 or one[2] < 1 or not math.isfinite(one[0]):
                    continue  # NB: traces note failures as answers of 0 tokens
                rows.append(one)
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: {error}: give a readable CSV file") from error
    if not rows:
        raise ScenarioError(f"{path}: it has no request: add lines of {','.join(COLUMNS)}")
    rows.sort()
    times = np.array([row[0] for row in rows])
    lengths = np.array([row[1:] for row in rows])
    return times - times[0], lengths[:, 0], lengths[:, 1]


def traced(scenario: Scenario, path: Path) -> Scenario:
    """Return the scenario with the requests of a file in place of its own."""
    read_trace(path)
    arrivals = Arrivals(process="trace", file=path)
    return scenario.model_copy(update={"traffic": (Traffic(arrivals=arrivals),)})


def defaults(path: Path) -> Scenario:
    """Return a scenario with the requests of a file and defaults for everything else."""
    times, _, _ = read_trace(path)
    return parse(
        {
            "apiVersion": API_VERSION,
            "kind": "Scenario",
            "name": "trace",
            "duration": f"{max(60, math.ceil(times[-1]) + 60)}s",
            "seeds": 1,
            "slo": {"ttft": {"p95": "1s"}, "tpot": {"p95": "40ms"}},
            "client": {"timeout": "60s", "retries": 1},
            "traffic": [{"arrivals": {"process": "trace", "file": str(path)}}],
        },
        what=str(path),
    )
