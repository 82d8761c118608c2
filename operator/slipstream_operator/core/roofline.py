"""Shortest time of a decode step by the accelerator's facts: reading the weights once, and computing with them."""

import dataclasses

from slipstream_operator.api import units
from slipstream_operator.api.servingprofile import Accelerator
from slipstream_operator.core import devices
from slipstream_operator.core.fit import memory, parameters
from slipstream_operator.core.fit.memory import Demand

_OPERATIONS = 2
"""Operations of a weight for each token: a multiplication and an addition."""


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Facts of one accelerator and the part of the model on it."""

    weights: int
    """Bytes that each step reads."""
    bandwidth: float
    """Bytes per second."""
    parameters: float
    """Weights with which each token is computed."""
    compute: float | None
    """Operations per second; None if the profile does not state them."""

    @property
    def reading(self) -> float:
        """Seconds of reading the weights once."""
        return self.weights / self.bandwidth

    def computing(self, tokens: float) -> float | None:
        """Return the seconds of computing these tokens; None if unknown."""
        if self.compute is None:
            return None
        return _OPERATIONS * self.parameters * tokens / self.compute


def of(accelerator: Accelerator, demand: Demand | None) -> Roofline | str:
    """Return the facts, or why they are unknown, as the end of a sentence."""
    if not devices.of(accelerator).dedicated:
        return "the bandwidth of its memory is not stated"
    if accelerator.memory_bandwidth is None:
        return f"accelerator {accelerator.name} of the ServingProfile states no memoryBandwidth"
    model = demand.architecture if demand is not None else None
    if demand is None or model is None:
        return "the model's configuration is not known"
    if model.experts is not None:
        return "a step of a mixture of experts reads a part of the weights that is not known"
    weights = memory.weights_bytes(model, demand.model.bytes, demand.split, fp8=demand.fp8)
    if weights is None:
        return "the size of the weights is not known"
    counted = parameters.count(model)
    return Roofline(
        weights=weights,
        bandwidth=float(units.quantity(accelerator.memory_bandwidth)),
        parameters=(counted.total - counted.embedding) / demand.split.total,
        compute=None
        if accelerator.operations is None
        else float(units.quantity(accelerator.operations)),
    )
