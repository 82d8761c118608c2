"""Capacity of one replica, measured on the engine model as an offline benchmark would measure it.

It is deterministic: every measurement uses the same Poisson process, scaled to its rate.
"""

import functools
import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from slipstream_operator.core.objectives import Objectives
from slipstream_runtime.simulator import model

_REQUESTS: Final = 300
_WARM: Final = 50
"""Requests at the beginning that are not counted."""
_BISECTIONS: Final = 7
_SEED: Final = 20_260_101


@functools.lru_cache(maxsize=4096)
def rate(engine: model.Parameters, objectives: Objectives, *, prompt: int, output: int) -> float:
    """Return the largest rate per second of requests of one size with which a replica keeps all latency objectives.

    If single requests miss the objectives or don't fit, return the rate of serving them one at a time.
    """
    alone = engine.alpha + engine.delta * prompt + output * _step(engine, 1, prompt, output)
    if prompt + output > engine.kv_tokens:
        return 1 / alone
    batch = min(float(engine.max_sequences), engine.kv_tokens / (prompt + output))
    low = 0.0
    high = batch / (batch * engine.delta * prompt + output * _step(engine, batch, prompt, output))
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if _keeps(engine, objectives, middle, prompt=prompt, output=output):
            low = middle
        else:
            high = middle
    return low or 1 / alone


def _step(engine: model.Parameters, batch: float, prompt: int, output: int) -> float:
    return engine.alpha + batch * (engine.beta + engine.gamma * (prompt + output / 2))


def _keeps(
    engine: model.Parameters, objectives: Objectives, rate: float, *, prompt: int, output: int
) -> bool:
    """Whether the engine keeps the objectives at a rate."""
    gaps = np.random.default_rng(_SEED).exponential(size=_REQUESTS)
    times = np.cumsum(gaps) / rate
    latencies = _run(engine, [float(time) for time in times], prompt=prompt, output=output)
    counted = {metric: values[_WARM:] for metric, values in latencies.items()}
    return all(
        float(np.mean(counted[one.metric] <= one.target)) >= one.share for one in objectives.latency
    )


def _run(
    parameters: model.Parameters, times: list[float], *, prompt: int, output: int
) -> dict[str, NDArray[np.float64]]:
    """Return TTFT, TPOT and E2E of each request, in seconds."""
    engine = model.Engine(parameters)
    first, last = np.zeros(len(times)), np.zeros(len(times))
    now, coming = 0.0, 0
    while coming < len(times) or not engine.idle:
        if engine.idle:
            now = max(now, times[coming])
        while coming < len(times) and times[coming] <= now:
            engine.add(model.Request(coming, times[coming], prompt, output))
            coming += 1
        step = engine.step(now, until=times[coming] if coming < len(times) else math.inf)
        now += step.duration
        for request in step.first:
            first[_index(request)] = now
        for request in step.finished:
            last[_index(request)] = now
    arrived = np.array(times)
    return {
        "ttft": first - arrived,
        "tpot": (last - first) / max(1, output - 1),
        "e2e": last - arrived,
    }


def _index(request: model.Request) -> int:
    assert isinstance(request.key, int)
    return request.key
