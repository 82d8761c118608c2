"""AIBrix: its APA and KPA modes on the pods' KV usage, and its optimizer with a perfect profile."""

import math
from collections import deque
from collections.abc import Mapping
from typing import ClassVar, Final

from slipstream_operator.core.scaling.promql import Expression
from slipstream_operator.simulator.policies import profile, reading
from slipstream_operator.simulator.policies.policy import Seen
from slipstream_runtime import contract
from slipstream_runtime.simulator.model import Parameters

_TOLERANCE: Final = 0.1
_COOLDOWN: Final = 300.0


class _Mode:
    """A mean over 180 s, and the window of recommendations, which AIBrix reads the wrong way round: growth follows
    its highest, shrinking its lowest."""

    every = 10.0
    repaired: ClassVar[bool] = False

    def __init__(self, name: str, target: float) -> None:
        self.name = name
        self.target = target
        self._usage: deque[tuple[float, float]] = deque()
        self._recommended: deque[tuple[float, int]] = deque()

    def queries(self) -> Mapping[str, Expression]:
        """Each pod's KV usage, which it scrapes itself."""
        return {"kv": reading.each(contract.KV_USAGE)}

    def decide(self, seen: Seen) -> int:
        """A pod that does not answer counts as 0; repaired: an outage holds."""
        found = reading.by_pod(seen, "kv")
        live = [pod for pod in seen.pods if not pod.terminating]
        if self.repaired:
            live = [pod for pod in live if pod.ready]
            if not found or not any(pod.name in found for pod in live):
                return seen.replicas
            values = [found[pod.name] for pod in live if pod.name in found]
        else:
            values = [(found or {}).get(pod.name, 0.0) for pod in live]
        usage = sum(values) / len(values) if values else 0.0
        self._usage.append((seen.now, usage))
        while self._usage[0][0] < seen.now - 180:
            self._usage.popleft()
        stable = sum(value for _, value in self._usage) / len(self._usage)
        wanted = self._stabilised(seen, self._wanted(stable, seen.replicas))
        return min(max(wanted, seen.minimum), seen.maximum)

    def _wanted(self, usage: float, current: int) -> int:
        raise NotImplementedError

    def _stabilised(self, seen: Seen, wanted: int) -> int:
        self._recommended.append((seen.now, wanted))
        while self._recommended[0][0] < seen.now - _COOLDOWN:
            self._recommended.popleft()
        counts = [count for _, count in self._recommended]
        if wanted < seen.replicas:
            return min(max(counts), seen.replicas) if self.repaired else min(counts)
        return wanted

    def restarted(self) -> None:
        """Windows are in memory."""
        self._usage.clear()
        self._recommended.clear()


class Apa(_Mode):
    """The mean over its target times the present count, at most doubled or halved."""

    def _wanted(self, usage: float, current: int) -> int:
        pressure = usage / self.target
        if pressure > 1 + _TOLERANCE:
            return min(math.ceil(current * pressure), 2 * current)
        if pressure < 1 - _TOLERANCE:
            return max(math.ceil(current * pressure), current // 2)
        return current


class ApaRepaired(Apa):
    """The window the right way round, and missing pods left out."""

    repaired = True


class Kpa(_Mode):
    """`ceil(mean / target)`, although the mean is over pods; clamped to half and double."""

    def _wanted(self, usage: float, current: int) -> int:
        total = usage * current if self.repaired else usage
        return min(max(math.ceil(total / self.target), current // 2), 2 * current)


class KpaRepaired(Kpa):
    """The total instead of the mean, the window the right way round, missing pods left out."""

    repaired = True


class Optimizer:
    """Arrivals at the gateway over 240 s against a profile of what one replica serves inside the SLO."""

    every = 10.0

    def __init__(self, name: str, margin: float, *, parameters: Parameters) -> None:
        self.name = name
        self._margin = margin
        self._parameters = parameters
        self._down = _COOLDOWN
        self._recommended: deque[tuple[float, int]] = deque()

    def queries(self) -> Mapping[str, Expression]:
        """Window and present rate of arrivals, and their lengths."""
        return {
            "long": reading.rate(contract.ROUTER_REQUESTS, 240),
            "short": reading.rate(contract.ROUTER_REQUESTS, 30),
            **reading.lengths(240),
        }

    def decide(self, seen: Seen) -> int:
        """An empty window: minReplicas, as shipped."""
        rates = [reading.total(seen, name) for name in ("long", "short")]
        arrivals = max((rate for rate in rates if rate is not None), default=0.0)
        prompt = reading.ratio(seen, "prompt_sum", "prompt_count")
        output = reading.ratio(seen, "output_sum", "output_count")
        wanted = seen.minimum
        if arrivals and prompt and output:
            served = profile.sustainable(
                self._parameters, seen.objectives, prompt=prompt, output=output
            )
            wanted = math.ceil(arrivals / (self._margin * served))
        self._recommended.append((seen.now, wanted))
        while self._recommended[0][0] < seen.now - self._down:
            self._recommended.popleft()
        if wanted < seen.replicas:
            wanted = min(seen.replicas, max(count for _, count in self._recommended))
        return min(max(wanted, seen.minimum), seen.maximum)

    def restarted(self) -> None:
        """The traffic is in Redis; recommendations are in memory."""
        self._recommended.clear()
