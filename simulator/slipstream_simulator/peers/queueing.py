"""WVA's queue: M/M/1/K whose service gets slower with the batch, as `pkg/analyzer` of its version 0.0.2 has it."""

import math
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from slipstream_runtime.simulator import model

Floats: TypeAlias = NDArray[np.float64]
_BISECTIONS: Final = 30


@dataclass(frozen=True)
class Profile:
    """ITL is alpha + beta n, prefill gamma + delta prompt n, with n requests in the batch; seconds."""

    alpha: float
    beta: float
    gamma: float
    delta: float
    batch: int

    @classmethod
    def perfect(
        cls, engine: model.Parameters, prompt: float, output: float, *, batch: int
    ) -> "Profile":
        """Return the profile that benchmarks of these lengths would find without error."""
        per_sequence = engine.beta + engine.gamma * (prompt + output / 2)
        return cls(engine.alpha, per_sequence, engine.alpha, engine.delta, batch)


@dataclass(frozen=True)
class Steady:
    """Means in the steady state, in seconds."""

    ttft: float
    itl: float


class Queue:
    """Requests of one size at one replica, which queues ten batches beside the running one."""

    def __init__(self, profile: Profile, *, prompt: float, output: float) -> None:
        self._profile, self._prompt, self._output = profile, prompt, output
        batch: Floats = np.arange(1, profile.batch + 1).astype(np.float64)
        service = self._prefill(batch) + output * self._itl(batch)
        self._present = np.arange(0, 11 * profile.batch + 1)
        self._in_batch = np.minimum(self._present, profile.batch)
        rates = (batch / service)[self._in_batch[1:] - 1]
        self._log_rates = np.concatenate([[0.0], np.cumsum(np.log(rates))])
        self.highest = float(np.max(batch / service))
        """Completions per second that the batch of best size gives."""

    def steady(self, rate: float) -> Steady:
        """The means at a rate of arrivals per second."""
        logs = self._present * math.log(rate) - self._log_rates
        weights = np.exp(logs - np.max(logs))
        share = weights / np.sum(weights)
        served = rate * (1.0 - float(share[-1]))
        in_batch = float(share @ self._in_batch)
        wait = float(share @ (self._present - self._in_batch)) / served
        mean_batch = np.array(max(1.0, in_batch))
        return Steady(wait + float(self._prefill(mean_batch)), float(self._itl(mean_batch)))

    def largest_rate(self, *, ttft: float, itl: float) -> float:
        """The largest rate per second whose means keep both targets; a trickle if none does."""
        low, high = 1e-3, self.highest
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            found = self.steady(middle)
            if found.ttft <= ttft and found.itl <= itl:
                low = middle
            else:
                high = middle
        return low

    def _itl(self, batch: Floats) -> Floats:
        return self._profile.alpha + self._profile.beta * batch

    def _prefill(self, batch: Floats) -> Floats:
        return self._profile.gamma + self._profile.delta * self._prompt * batch
