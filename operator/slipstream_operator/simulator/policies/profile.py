"""What an offline profile would tell a peer: latencies and rates of one replica in the steady state.

Mean values from the engine's step time, alpha + beta*b + gamma*K + delta*p, and Little's law (as in the scaling
study, section 2.2). Peers get the true parameters: a better profile than any benchmark would give them.
"""

import functools

from slipstream_operator.core.objectives import Objectives
from slipstream_runtime.simulator.model import Parameters


def tpot(parameters: Parameters, *, rate: float, prompt: float, output: float) -> float:
    """Mean seconds a token at `rate` requests/s; inf beyond what the engine can do."""
    busy = rate * work(parameters, prompt=prompt, output=output)
    return parameters.alpha / (1 - busy) if busy < 1 else float("inf")


def work(parameters: Parameters, *, prompt: float, output: float) -> float:
    """Marginal engine seconds of one request."""
    token = parameters.beta + parameters.gamma * (prompt + output / 2)
    return parameters.delta * prompt + token * output


def batch(parameters: Parameters, *, prompt: float, output: float) -> float:
    """Sequences that fit: by count, and by 90 % of the KV cache."""
    return min(parameters.max_sequences, 0.9 * parameters.kv_tokens / (prompt + output / 2))


@functools.lru_cache(maxsize=4096)
def _sustainable(
    parameters: Parameters,
    tpot_target: float | None,
    ttft_target: float | None,
    prompt: float,
    output: float,
) -> float:
    each = work(parameters, prompt=prompt, output=output)
    places = batch(parameters, prompt=prompt, output=output)
    rates = [places / (output * parameters.alpha + places * each)]
    if tpot_target is not None:
        rates.append(max(0.0, 1 - parameters.alpha / tpot_target) / each)
    if ttft_target is not None:
        low, high = 0.0, 1 / each
        for _ in range(30):
            middle = (low + high) / 2
            if _ttft(parameters, rate=middle, prompt=prompt, output=output) <= ttft_target:
                low = middle
            else:
                high = middle
        rates.append(low)
    return max(min(rates), 1e-3)


def _ttft(parameters: Parameters, *, rate: float, prompt: float, output: float) -> float:
    """Mean prefill in a queue of prefills (M/G/1 with deterministic service), and one step."""
    service = parameters.delta * prompt
    busy = rate * service
    if busy >= 1:
        return float("inf")
    wait = busy * service / (2 * (1 - busy))
    return service + wait + tpot(parameters, rate=rate, prompt=prompt, output=output)


def sustainable(
    parameters: Parameters, objectives: Objectives, *, prompt: float, output: float
) -> float:
    """Requests/s at which one replica's means meet the targets and its batch fits."""
    targets = {
        metric: min(
            (one.target for one in objectives.latency if one.metric == metric), default=None
        )
        for metric in ("tpot", "ttft")
    }
    return _sustainable(
        parameters, targets["tpot"], targets["ttft"], round(prompt, -1) or 1.0, round(output) or 1.0
    )
