"""Acceptance of draft tokens by their position, from recent steps. Pure.

Steps with many draft tokens also tell how steps with fewer would do, because only the first tokens count then. So one
number of draft tokens informs about all smaller ones.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

_REMEMBERED: Final = 4000.0
"""Requests' steps after which the weight of an observation has fallen to 1/e."""
_FADING: Final = 20_000.0
"""Steps of the engine after which that weight has fallen to 1/e even without new observations."""
_LATEST: Final = 256
"""Requests' steps that are compared with what was seen before."""
_SURPRISE: Final = 3.0
"""Standard errors of these that make older observations weigh as little as the latest ones."""
_SHARED: Final = 300.0
"""Weight, in requests' steps, of the acceptance at all batch sizes in the one at a single batch size."""
_CORRELATION: Final = 4.0
"""Factor by which the variance is larger than for independent steps, because the steps of a response are alike."""


class Acceptance:
    """Shares of requests' steps in which at least 1, 2, ... draft tokens were accepted."""

    def __init__(self, most: int, *, shared: "Acceptance | None" = None) -> None:
        self._shared = shared
        self._seen: npt.NDArray[np.float64] = np.zeros(most)
        self._reached: npt.NDArray[np.float64] = np.zeros(most)
        self._latest_seen = self._latest_reached = 0

    def add(self, drafted: int, accepted: Sequence[int]) -> None:
        """Count steps of requests with `drafted` tokens ordered, by the number accepted in each."""
        if not drafted or not accepted:
            return
        if self._shared is not None:
            self._shared.add(drafted, accepted)
        self._check(accepted)
        fading = math.exp(-len(accepted) / _REMEMBERED)
        counts = np.bincount(np.minimum(accepted, drafted), minlength=drafted + 1)
        reached = counts[::-1].cumsum()[::-1][1:]
        self._seen[:drafted] = self._seen[:drafted] * fading + len(accepted)
        self._reached[:drafted] = self._reached[:drafted] * fading + reached

    def _check(self, accepted: Sequence[int]) -> None:
        """Forget what was seen if the latest observations contradict it."""
        self._latest_seen += len(accepted)
        self._latest_reached += sum(1 for number in accepted if number)
        if self._latest_seen < _LATEST:
            return
        latest = self._latest_reached / self._latest_seen
        usual = self._reached[0] / self._seen[0] if self._seen[0] else latest
        error = math.sqrt(_CORRELATION * max(usual * (1 - usual), 0.01) / self._latest_seen)
        if abs(latest - usual) > _SURPRISE * error:
            keep = min(1.0, self._latest_seen / self._seen[0])
            self._seen *= keep
            self._reached *= keep
        self._latest_seen = self._latest_reached = 0

    def fade(self, steps: int) -> None:
        """Let the observations weigh less after this many steps of the engine."""
        self._seen *= math.exp(-steps / _FADING)
        self._reached *= math.exp(-steps / _FADING)

    def known(self, tokens: int) -> bool:
        """Whether steps with at least this many draft tokens were seen."""
        return tokens == 0 or self._evidence()[0][tokens - 1] > 0

    def length(self, tokens: int) -> float:
        """Return the mean number of output tokens of a request's step with this many draft tokens."""
        return 1.0 + float(self._shares()[:tokens].sum())

    def variance(self, tokens: int) -> float:
        """Return the variance of the logarithm of `length`."""
        if not tokens:
            return 0.0
        shares = self._shares()[:tokens]
        mean = float(shares.sum())
        square = float((shares * (2 * np.arange(1, tokens + 1) - 1)).sum())
        seen = max(float(self._evidence()[0][tokens - 1]), 1.0)
        spread = max(square - mean * mean, 0.01)
        return _CORRELATION * spread / seen / (1.0 + mean) ** 2

    def _shares(self) -> npt.NDArray[np.float64]:
        seen, reached = self._evidence()
        shares = np.divide(reached, seen, out=np.zeros_like(seen), where=seen > 0)
        return np.minimum.accumulate(shares)

    def _evidence(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        if self._shared is None:
            return self._seen, self._reached
        seen, reached = self._shared._seen, self._shared._reached
        weight = np.divide(_SHARED, seen, out=np.zeros_like(seen), where=seen > _SHARED)
        weight = np.where((seen > 0) & (seen <= _SHARED), 1.0, weight)
        return self._seen + weight * seen, self._reached + weight * reached
