"""Step times of a service's own engines, fitted to the requests that its routers recorded. Pure.

The records say when each replica had which requests, so the batch of each step is known without a replay. A request
with n output tokens decodes in n - 1 steps. Their time is linear in alpha, beta, gamma and delta, with the mean batch,
the mean KV tokens and the prompt tokens of that time.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from slipstream_operator.core.scaling.models.steptime import Coefficients
from slipstream_runtime.simulator import calibration, model
from slipstream_simulator.recorded.requests import Recorded

LEAST: Final = 20
"""Requests that five unknowns need, at least."""
_HALF: Final = 0.5
"""Steps that an arrival waits for on average, while the step before it runs."""
_SHAPE: Final = model.Parameters()
"""Proportions of the step times that are assumed where the records can't tell them apart."""

_Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Fitted:
    """Engine that behaves like the service's."""

    parameters: model.Parameters
    source: str
    """Origin of the step times, in words."""
    requests: int
    """Requests whose latencies were fitted; 0 if the step times are the operator's."""


def of_records(requests: Sequence[Recorded], *, limits: model.Parameters) -> Fitted:
    """Return the engine that fits the latencies of the requests best; ValueError if there are too few of them."""
    by_replica: defaultdict[str, list[Recorded]] = defaultdict(list)
    for one in requests:
        if one.replica and one.output > 0:
            by_replica[one.replica].append(one)
    usual = _usual(requests)
    equations = [_equations(found, usual, limits) for found in by_replica.values()]
    rows = np.concatenate([*(rows for rows, _ in equations), _assumed(usual)])
    measured = np.concatenate([*(seconds for _, seconds in equations), np.ones(4)])
    start = np.array([usual, 0.0, 0.0, 0.0, 0.0])
    values, _ = calibration.solve(rows, measured, start)
    # NB: the last unknown holds the wait for the running step as well, so the replay decides on the overhead.
    alpha, beta, gamma, delta, _ = map(float, values)
    return Fitted(
        parameters=replace(limits, alpha=alpha, beta=beta, gamma=gamma, delta=delta),
        source="fitted to the records",
        requests=sum(one.answered for found in by_replica.values() for one in found),
    )


def of_operator(learned: Coefficients, *, limits: model.Parameters) -> Fitted:
    """Return the engine with the step times that the operator learned."""
    return Fitted(
        parameters=replace(
            limits,
            alpha=learned.alpha,
            beta=learned.beta,
            gamma=learned.gamma,
            delta=learned.delta,
        ),
        source="learned by the operator",
        requests=0,
    )


def cached(one: Recorded) -> int:
    """Return the prompt tokens from the prefix cache that an engine model may leave out; 0 if they are unknown.

    The fit of the time per prompt token then includes the cache's usual share.
    """
    known = None if one.engine is None else one.engine.cached
    return min(known or 0, max(1, one.prompt) - 1)


def _usual(requests: Sequence[Recorded]) -> float:
    """Return the median seconds of a step: of a token after the first, or of one of all where that is unknown."""
    answered = [one for one in requests if one.answered and one.replica and one.output > 1]
    if len(answered) < LEAST:
        raise ValueError(
            f"{len(answered)} requests of two output tokens or more were recorded, at least {LEAST} are needed"
        )
    times = [
        one.tpot if one.tpot is not None else one.seconds["first"] / one.output for one in answered
    ]
    return max(float(np.median(times)), 1e-6)


def _assumed(usual: float) -> _Array:
    """Return one row for each coefficient, as weak as one request, that says its assumed proportion."""
    shape = np.array([_SHAPE.alpha, _SHAPE.beta, _SHAPE.gamma, _SHAPE.delta])
    scaled = usual * shape / _SHAPE.alpha
    return np.hstack([np.diag(1 / scaled), np.zeros((4, 1))])


def _equations(
    requests: Sequence[Recorded], usual: float, limits: model.Parameters
) -> tuple[_Array, _Array]:
    """Return rows r and seconds y with r @ (alpha, beta, gamma, delta, overhead) = y, of one replica's requests."""
    sent = np.array([one.sent for one in requests])
    ended = np.array([one.ended - one.seconds["client"] for one in requests])
    output = np.array([float(one.output) for one in requests])
    prompt = np.array([float(max(1, one.prompt) - cached(one)) for one in requests])
    context = np.array([one.prompt + one.output / 2 for one in requests])
    streamed = np.array([one.streamed for one in requests])
    answered = np.array([one.answered for one in requests])
    to_first = np.array([one.seconds["first"] for one in requests])
    chunks = np.ceil(prompt / limits.max_batched_tokens)
    # NB: of an answer that is no stream, the first token comes after the prefill.
    first = sent + np.where(streamed, to_first, np.minimum((chunks + _HALF) * usual, ended - sent))
    batch = _Integral(sent, ended, np.ones(len(sent)))
    tokens = _Integral(sent, ended, context)
    computed = _Integral(np.maximum(sent, first - chunks * usual), first, prompt, spread=True)

    def rows(start: _Array, end: _Array, steps: _Array, *, overhead: float) -> _Array:
        took = np.maximum(end - start, 1e-9)
        return np.stack(
            [
                steps,
                steps * batch.between(start, end) / took,
                steps * tokens.between(start, end) / took,
                computed.between(start, end),
                np.full(len(start), overhead),
            ],
            axis=1,
        )

    decoding = answered & streamed & (output > 1) & (ended > first)
    beginning = answered & streamed & (to_first > 0)
    whole = answered & ~streamed & (to_first > 0)
    alone = batch.at(sent) < 1.0
    begin_steps = chunks + np.where(alone, 0.0, _HALF)
    found = [
        (rows(first, ended, output - 1, overhead=0.0)[decoding], (ended - first)[decoding]),
        (rows(sent, first, begin_steps, overhead=1.0)[beginning], to_first[beginning]),
        (rows(sent, ended, begin_steps + output - 1, overhead=1.0)[whole], to_first[whole]),
    ]
    return np.concatenate([one for one, _ in found]), np.concatenate([y for _, y in found])


class _Integral:
    """Integral over time of a sum of requests' weights, each between its start and its end."""

    def __init__(self, start: _Array, end: _Array, weight: _Array, *, spread: bool = False) -> None:
        """With `spread`, each weight is divided over its time, so that the integral counts it once."""
        took = np.maximum(end - start, 1e-6)
        height = weight / took if spread else weight
        times = np.concatenate([start, start + took])
        order = np.argsort(times, kind="stable")
        self._times = times[order]
        self._heights = np.cumsum(np.concatenate([height, -height])[order])
        steps = np.diff(self._times) * self._heights[:-1]
        self._sums = np.concatenate([[0.0], np.cumsum(steps)])

    def at(self, time: _Array) -> _Array:
        """Return the sum of the weights just before a time."""
        before = np.searchsorted(self._times, time, side="left") - 1
        return np.where(before < 0, 0.0, np.round(self._heights[before], 9))

    def between(self, start: _Array, end: _Array) -> _Array:
        """Return the integral from each start to each end."""
        return self._until(end) - self._until(start)

    def _until(self, time: _Array) -> _Array:
        before = np.clip(np.searchsorted(self._times, time, side="right") - 1, 0, None)
        after = np.maximum(0.0, time - self._times[before])
        found: _Array = self._sums[before] + after * self._heights[before]
        return found
