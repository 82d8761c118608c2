"""llm-d's workload variant autoscaler: saturation engines V1 and V2 behind their HPA, and the older model-based one."""

import math
import statistics
from collections import deque
from collections.abc import Mapping
from typing import ClassVar, Final

from slipstream_operator.core.scaling.promql import Expression
from slipstream_operator.simulator.policies import hpa, profile, reading
from slipstream_operator.simulator.policies.policy import Seen
from slipstream_runtime import contract
from slipstream_runtime.simulator.model import Parameters

_POLL: Final = 30.0


class _BehindHpa:
    """A gauge of wanted replicas, every 30 s, that an HPA follows every 15 s."""

    every = hpa.SYNC_SECONDS

    def __init__(self, name: str, *, window: float) -> None:
        self.name = name
        rules = (hpa.Rule("Pods", 10, 150),)
        self._stabiliser = hpa.Stabiliser(
            hpa.Behavior(up_window=window, up=rules, down_window=window, down=rules)
        )
        self._wanted: int | None = None
        self._polled = -math.inf

    def decide(self, seen: Seen) -> int:
        """What the HPA makes of the gauge."""
        if seen.now - self._polled >= _POLL - 1e-6:
            self._polled = seen.now
            self._wanted = self._poll(seen)
        if self._wanted is None:
            return seen.replicas
        desired = hpa.external(self._wanted, 1, current=seen.replicas)
        assert desired is not None
        return self._stabiliser.settle(
            seen.now,
            desired,
            current=seen.replicas,
            minimum=max(1, seen.minimum),
            maximum=seen.maximum,
        )

    def _poll(self, seen: Seen) -> int | None:
        raise NotImplementedError

    def restarted(self) -> None:
        """The last wish is in the object's status."""
        self._polled = -math.inf


class V1(_BehindHpa):
    """One replica more or less by the spare of the replicas that are not saturated, frozen while anything moves."""

    QUEUE: Final = 5.0
    KV_SPARE: Final = 0.10
    QUEUE_SPARE: Final = 3.0

    def __init__(self, name: str, threshold: float, *, window: float = 240.0) -> None:
        super().__init__(name, window=window)
        self._threshold = threshold
        """KV usage from which a replica is saturated; 0.80 as shipped."""

    def queries(self) -> Mapping[str, Expression]:
        """Peaks of a minute, by pod."""
        return {
            "kv": reading.highest(contract.KV_USAGE, 60),
            "waiting": reading.highest(contract.WAITING, 60),
        }

    def _poll(self, seen: Seen) -> int | None:
        usage, waiting = reading.by_pod(seen, "kv"), reading.by_pod(seen, "waiting")
        wanted = seen.replicas if self._wanted is None else self._wanted
        if usage is None or waiting is None or not (usage or waiting):
            return self._wanted
        # NB: a pod that lacks one of the series is taken as 0 there, as in the original.
        pods = {pod: (usage.get(pod, 0.0), waiting.get(pod, 0.0)) for pod in {*usage, *waiting}}
        current = len([pod for pod in seen.pods if not pod.terminating])
        if wanted != current or len(pods) != current:
            return wanted
        free = [
            pair for pair in pods.values() if pair[0] < self._threshold and pair[1] < self.QUEUE
        ]
        spare_kv = statistics.fmean(self._threshold - kv for kv, _ in free) if free else 0.0
        spare_queue = statistics.fmean(self.QUEUE - q for _, q in free) if free else 0.0
        if spare_kv < self.KV_SPARE or spare_queue < self.QUEUE_SPARE:
            return wanted + 1
        if len(free) >= 2:
            grown = len(free) / (len(free) - 1)
            kv = statistics.fmean(kv for kv, _ in free) * grown
            queue = statistics.fmean(q for _, q in free) * grown
            roomy = self._threshold - kv >= self.KV_SPARE and self.QUEUE - queue >= self.QUEUE_SPARE
            if roomy:
                return max(1, wanted - 1)
        return wanted


class V2(_BehindHpa):
    """Tokens in use against a capacity that is learned whenever a queue is seen."""

    DOWN: Final = 0.70

    def __init__(
        self, name: str, target: float, *, parameters: Parameters, window: float = 240.0
    ) -> None:
        super().__init__(name, window=window)
        self._up = target
        """Share of the capacity that is planned to; 0.85 as shipped."""
        self._parameters = parameters
        self._seen: dict[str, deque[float]] = {}

    def queries(self) -> Mapping[str, Expression]:
        """Peaks of a minute by pod, mean lengths of five."""
        return {
            "kv": reading.highest(contract.KV_USAGE, 60),
            "waiting": reading.highest(contract.WAITING, 60),
            **reading.lengths(300),
        }

    def _poll(self, seen: Seen) -> int | None:
        usage, waiting = reading.by_pod(seen, "kv"), reading.by_pod(seen, "waiting")
        prompt = reading.ratio(seen, "prompt_sum", "prompt_count") or 0.0
        output = reading.ratio(seen, "output_sum", "output_count") or 0.0
        if usage is None or waiting is None or not usage:
            return self._wanted
        tokens = self._parameters.kv_tokens
        demand = sum(kv * tokens + waiting.get(pod, 0.0) * prompt for pod, kv in usage.items())
        capacities = [
            self._capacity(usage[pod] * tokens, waiting.get(pod, 0.0), prompt, output)
            for pod in usage
        ]
        capacity = statistics.median(capacities)
        live = len([pod for pod in seen.pods if not pod.terminating])
        missing = demand / self._up - live * capacity
        if missing > 0:
            return live + math.ceil(missing / capacity)
        spare = live * capacity - demand / min(self.DOWN, self._up)
        return max(1, live - max(0, math.floor(spare / capacity)))

    def _capacity(self, in_use: float, waiting: float, prompt: float, output: float) -> float:
        model = self._parameters
        length = "short" if output < 100 else "medium" if output < 500 else "long"
        seen = self._seen.setdefault(length, deque(maxlen=10))
        by_memory = 0.80 * model.kv_tokens
        if waiting >= 5:
            seen.append(max(in_use, 1.0))
            return min(by_memory, max(in_use, 1.0))
        if seen:
            return min(by_memory, statistics.fmean(seen))
        if prompt and output:
            steady = min(model.max_batched_tokens * output / (prompt + output), model.max_sequences)
            return min(by_memory, steady * (prompt + output / 2))
        return by_memory

    def restarted(self) -> None:
        """What it learned was in memory."""
        super().restarted()
        self._seen.clear()


class Inferno:
    """The older one: completions as the load, means from a state-dependent M/M/1/K queue with the true parameters."""

    every = 60.0
    counts: ClassVar[tuple[str, ...]] = ("completions",)

    def __init__(self, name: str, margin: float, *, parameters: Parameters) -> None:
        self.name = name
        self._margin = margin
        """Share of the highest rate that is planned to; 1 as shipped."""
        self._parameters = parameters
        self._stabiliser = hpa.Stabiliser(hpa.Behavior(up_window=0.0, down_window=300.0))

    def queries(self) -> Mapping[str, Expression]:
        """Rates of a minute over the whole model."""
        return {
            "completions": reading.rate(contract.REQUEST_SUCCESS, 60),
            **reading.lengths(60),
        }

    def decide(self, seen: Seen) -> int:
        """NaN and an empty result are 0, as in the original; only an error skips the round."""
        if reading.values(seen, "completions") is None:
            return seen.replicas
        load = reading.total(seen, "completions") or 0.0
        prompt = reading.ratio(seen, "prompt_sum", "prompt_count") or 0.0
        output = reading.ratio(seen, "output_sum", "output_count") or 0.0
        wanted = 1
        if load and prompt and output:
            served = profile.sustainable(
                self._parameters, seen.objectives, prompt=prompt, output=output
            )
            wanted = math.ceil(load / (self._margin * served))
        return self._stabiliser.settle(
            seen.now,
            wanted,
            current=seen.replicas,
            minimum=max(1, seen.minimum),
            maximum=seen.maximum,
        )

    def restarted(self) -> None:
        """Nothing but the HPA's windows."""
        self._stabiliser.forget()
