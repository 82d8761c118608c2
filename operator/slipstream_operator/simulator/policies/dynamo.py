"""A planner like NVIDIA Dynamo's: the next interval's requests and lengths as the last one's, a true profile,
and a correction by measured over expected latency."""

import math
from collections.abc import Mapping
from typing import Final

from slipstream_operator.core.scaling.promql import Expression
from slipstream_operator.simulator.policies import profile, reading
from slipstream_operator.simulator.policies.policy import Seen
from slipstream_runtime import contract
from slipstream_runtime.simulator.model import Parameters

_INTERVAL: Final = 60.0


class Planner:
    """Prefill and decode together in each replica, as here; the larger of the two needs counts."""

    every = _INTERVAL

    def __init__(self, name: str, margin: float, *, parameters: Parameters) -> None:
        self.name = name
        self._margin = margin
        """Share of the profile's throughput that is planned to; 1 as shipped."""
        self._parameters = parameters

    def queries(self) -> Mapping[str, Expression]:
        """Over one interval."""
        return {
            "arrivals": reading.rate(contract.ROUTER_REQUESTS, _INTERVAL),
            "tpot_sum": reading.rate(f"{contract.TPOT}_sum", _INTERVAL),
            "tpot_count": reading.rate(f"{contract.TPOT}_count", _INTERVAL),
            **reading.lengths(_INTERVAL),
        }

    def decide(self, seen: Seen) -> int:
        """Without traffic or data the present count."""
        arrivals = reading.total(seen, "arrivals")
        prompt = reading.ratio(seen, "prompt_sum", "prompt_count")
        output = reading.ratio(seen, "output_sum", "output_count")
        ready = reading.ready(seen)
        if not arrivals or not prompt or not output or not ready:
            return seen.replicas
        model = self._parameters
        expected = profile.tpot(model, rate=arrivals / ready, prompt=prompt, output=output)
        measured = reading.ratio(seen, "tpot_sum", "tpot_count")
        correction = 1.0
        if measured and math.isfinite(expected):
            correction = measured / expected
        prefill = arrivals * model.delta * prompt * min(1.0, correction) / self._margin
        targets = [one.target for one in seen.objectives.latency if one.metric == "tpot"]
        decode = 0.0
        if targets:
            busy = 1 - model.alpha / (min(targets) / max(correction, 0.1))
            each = profile.work(model, prompt=prompt, output=output)
            decode = arrivals * each / (self._margin * max(busy, 0.05))
        places = profile.batch(model, prompt=prompt, output=output)
        each = profile.work(model, prompt=prompt, output=output)
        memory = arrivals * (output * model.alpha + places * each) / places / self._margin
        wanted = math.ceil(max(prefill, decode, memory))
        return min(max(wanted, seen.minimum), seen.maximum)

    def restarted(self) -> None:
        """It keeps nothing that matters to a constant predictor."""
