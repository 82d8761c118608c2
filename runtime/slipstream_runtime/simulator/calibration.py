"""Coefficients of an engine model, from latencies that clients of a real engine measured. Pure.

For a given schedule, every latency is linear in alpha, beta, gamma and delta: it is the sum of the steps that the
request waited for. So the model replays the load, and least squares find the coefficients that fit its steps to the
measured latencies. Then the model replays with these coefficients. Microseconds decide which step an arrival catches,
so the solutions do not converge but jump around a point; their mean is used. Only arrivals, lengths and latencies are
needed, for any engine.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from slipstream_runtime.simulator import model, replay

LEAST: Final = 20
"""Requests that five unknowns need, at least."""
_ROUNDS: Final = 16
"""Replays with improved coefficients."""
_SETTLING: Final = 6
"""Rounds after which the solutions are close to their mean; the earlier ones are left out of it."""
_REWEIGHTINGS: Final = 10
"""Least squares in one round, each with new weights."""
_OVERHEAD: Final = 4
"""Index of the overhead among the unknowns, after alpha, beta, gamma and delta."""
_HUBER: Final = 1.345
"""Huber's bound in standard deviations; 95 % as efficient as least squares if the errors are normal."""
_EXACT: Final = 1e-6
"""Relative errors below this count as zero."""
_NORMAL_MAD: Final = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""

_Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Observation:
    """Request and the latencies that its client saw, in seconds."""

    request: model.Request
    ttft: float
    tpot: float | None
    """Mean time between output tokens; None below two tokens."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Engine as its clients see it."""

    parameters: model.Parameters
    overhead: float
    """Seconds of a TTFT outside the engine's steps: HTTP, tokenization, queues between processes."""
    residual: float
    """Standard deviation of the relative errors of the latencies, without outliers."""

    def predict(self, requests: Sequence[model.Request]) -> list[Observation]:
        """Return the latencies that clients of these requests would see, in order of arrival."""
        return [
            Observation(
                request=outcome.request,
                ttft=outcome.ttft + self.overhead,
                tpot=outcome.tpot if outcome.request.output > 1 else None,
            )
            for outcome in replay.replay(self.parameters, requests)
        ]


def fit(runs: Sequence[Sequence[Observation]], *, limits: model.Parameters) -> Fit:
    """Return the engine that fits all runs best, each of which started on an idle engine; `limits` has its limits.

    It minimizes the squares of the relative errors with Huber's weights, so that a stall of the machine counts
    little, without negative coefficients. ValueError if there are too few observations.
    """
    tpots = [each.tpot for run in runs for each in run if each.tpot is not None]
    if len(tpots) < LEAST:
        raise ValueError(
            f"{len(tpots)} requests of two output tokens or more were observed, at least {LEAST} "
            "are needed: measure for longer"
        )
    values = np.array([np.median(tpots), 0.0, 0.0, 0.0, 0.0])
    found = []
    for _ in range(_ROUNDS):
        parameters = _parameters(values, limits)
        equations = [_equations(run, parameters) for run in runs]
        rows, measured = map(np.concatenate, zip(*equations, strict=True))
        values, deviation = solve(rows, measured, values)
        found.append((values, deviation))
    settled = found[_SETTLING:]
    return Fit(
        parameters=_parameters(np.mean([values for values, _ in settled], axis=0), limits),
        overhead=float(np.mean([values[_OVERHEAD] for values, _ in settled])),
        residual=float(np.median([deviation for _, deviation in settled])),
    )


def _parameters(values: _Array, limits: model.Parameters) -> model.Parameters:
    alpha, beta, gamma, delta = map(float, values[:4])
    return replace(limits, alpha=alpha, beta=beta, gamma=gamma, delta=delta)


def _equations(run: Sequence[Observation], parameters: model.Parameters) -> tuple[_Array, _Array]:
    """Return rows r and seconds y with r @ (alpha, beta, gamma, delta, overhead) = y.

    Each TPOT gives one equation, and each TTFT one. From a TTFT, the rest of the step that runs at the arrival is
    subtracted.
    """
    player = replay.Replay(model.Engine(parameters))
    starts, sums = [], [np.zeros(5)]
    first: dict[object, int] = {}
    last: dict[object, int] = {}
    for number, (end, step) in enumerate(player.run(each.request for each in run)):
        starts.append(end - step.duration)
        sums.append(sums[-1] + _terms(step))
        first.update((request.key, number) for request in step.first)
        last.update((request.key, number) for request in step.finished)
    begins = np.array(starts)
    rows, measured = [], []
    for each in run:
        key, arrival = each.request.key, each.request.arrival
        # NB: the replay's clock and its arrivals are sums of the same floats, except for rounding.
        considered = int(np.searchsorted(begins, arrival - 1e-9))
        ended = sums[first[key] + 1]
        rows.append(ended - sums[considered] + np.array([0, 0, 0, 0, 1]))
        measured.append(each.ttft - (begins[considered] - arrival))
        if each.tpot is not None:
            rows.append((sums[last[key] + 1] - ended) / (each.request.output - 1))
            measured.append(each.tpot)
    return np.array(rows), np.array(measured)


def _terms(step: model.Step) -> _Array:
    """Return the factors of alpha, beta, gamma and delta, summed over the iterations of the step."""
    n = step.iterations
    kv_tokens = n * step.kv_used + step.decoded * n * (n - 1) / 2
    return np.array([n, n * step.running, kv_tokens, step.prefilled, 0.0])


def solve(rows: _Array, measured: _Array, values: _Array) -> tuple[_Array, float]:
    """Return the solution of iteratively re-weighted non-negative least squares, and the deviation of its errors.

    It starts at `values`. Errors are relative, and outliers have little weight.
    """
    deviation = 0.0
    for _ in range(_REWEIGHTINGS):
        scale = 1 / np.maximum(rows @ values, 1e-9)
        errors = np.abs(rows @ values - measured) * scale
        deviation = _NORMAL_MAD * float(np.median(errors))
        bound = _HUBER * max(deviation, _EXACT)
        huber = bound / np.maximum(errors, bound)
        weights = scale * np.sqrt(huber)
        values = _non_negative(rows * weights[:, None], measured * weights)
    return values, deviation


def _non_negative(rows: _Array, wanted: _Array) -> _Array:
    """Return the least squares with alpha above 0 and no other coefficient below 0, the best of all active sets."""
    size: _Array = np.linalg.norm(rows, axis=0) + 1e-12
    rows = rows / size
    squares, products = rows.T @ rows, rows.T @ wanted
    best, least = np.zeros(len(size)), np.inf
    for others in _subsets(range(1, len(size))):
        active = [0, *others]
        found, *_ = np.linalg.lstsq(squares[np.ix_(active, active)], products[active])
        error = -float(found @ products[active])
        if error < least and found[0] > 0 and found.min() >= 0:
            best, least = np.zeros(len(size)), error
            best[active] = found
    return best / size


def _subsets(items: Sequence[int]) -> Iterator[tuple[int, ...]]:
    for count in range(len(items) + 1):
        yield from itertools.combinations(items, count)
