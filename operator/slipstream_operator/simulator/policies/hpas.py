"""Peers whose count is an HPA's: the HPA on engine metrics, production-stack, KAITO and OME."""

from collections.abc import Mapping
from typing import ClassVar

from slipstream_operator.core.scaling.promql import Binary, By, Constant, Expression, Over, Series
from slipstream_operator.simulator.policies import hpa, reading
from slipstream_operator.simulator.policies.policy import Seen
from slipstream_runtime import contract


class Hpa:
    """One HPA with a rule of its own; `proposals` gives a count for each metric, None where it is missing."""

    every = hpa.SYNC_SECONDS
    behavior: ClassVar[hpa.Behavior] = hpa.Behavior()

    def __init__(self, name: str, target: float) -> None:
        self.name = name
        self.target = target
        self._stabiliser = hpa.Stabiliser(self.behavior)

    def queries(self) -> Mapping[str, Expression]:
        """What its metrics need."""
        raise NotImplementedError

    def proposals(self, seen: Seen) -> list[int | None]:
        """A count for each metric."""
        raise NotImplementedError

    def decide(self, seen: Seen) -> int:
        """The highest proposal, stabilised."""
        desired = hpa.combine(self.proposals(seen), current=seen.replicas)
        return self._stabiliser.settle(
            seen.now,
            desired,
            current=seen.replicas,
            minimum=max(1, seen.minimum),
            maximum=seen.maximum,
        )

    def restarted(self) -> None:
        """Recommendations live in the controller's memory only."""
        self._stabiliser.forget()


class PodsMetric(Hpa):
    """HPA on the mean of an engine gauge, through an adapter of custom metrics."""

    metric: ClassVar[str]

    def queries(self) -> Mapping[str, Expression]:
        """One value a pod."""
        return {"metric": reading.each(self.metric)}

    def proposals(self, seen: Seen) -> list[int | None]:
        """By the rules for pods metrics."""
        live = [pod for pod in seen.pods if not pod.terminating]
        return [
            hpa.per_pod(
                reading.by_pod(seen, "metric"),
                self.target,
                ready=[pod.name for pod in live if pod.ready],
                unready=[pod.name for pod in live if not pod.ready],
                current=seen.replicas,
            )
        ]


class HpaWaiting(PodsMetric):
    """HPA on waiting requests a pod."""

    metric = contract.WAITING


class HpaKv(PodsMetric):
    """HPA on the used share of the KV cache."""

    metric = contract.KV_USAGE


class HpaRunning(PodsMetric):
    """HPA on running requests a pod: not shipped by anybody, but what an expert sets up."""

    metric = contract.RUNNING


class ProductionStackChart(Hpa):
    """KEDA on `vllm:num_requests_waiting`, without a sum: more than one series is an error, and an error holds."""

    repaired: ClassVar[bool] = False

    def queries(self) -> Mapping[str, Expression]:
        """As the chart's trigger says."""
        return {"waiting": reading.each(contract.WAITING)}

    def proposals(self, seen: Seen) -> list[int | None]:
        """An empty result is zero: KEDA's ignoreNullValues is true by default."""
        found = reading.values(seen, "waiting")
        if found is None or (len(found) > 1 and not self.repaired):
            return [None]
        return [hpa.external(sum(found), self.target, current=seen.replicas)]


class ProductionStackChartRepaired(ProductionStackChart):
    """The same with `sum(...)`."""

    repaired = True


class ProductionStackOperator(Hpa):
    """Four triggers, of which the highest counts; the first proposes the present count while there is any traffic."""

    behavior = hpa.Behavior(
        up=(hpa.Rule("Pods", 1, 60),), down=(hpa.Rule("Pods", 1, 60),), down_window=300.0
    )
    keepalive: ClassVar[bool] = True

    def queries(self) -> Mapping[str, Expression]:
        """As the operator writes them."""
        arrivals = Over("rate", Series(contract.ROUTER_REQUESTS), 120)
        return {
            "alive": By("sum", ("service",), Binary(arrivals, "> bool", Constant(0))),
            "running": reading.summed(contract.RUNNING),
            "output": reading.rate(contract.GENERATION_TOKENS, 60),
            "prompt": reading.rate(contract.PROMPT_TOKENS, 60),
        }

    def proposals(self, seen: Seen) -> list[int | None]:
        """Running against the knob, tokens against 20 times the knob (5 and 100 as shipped)."""

        def count(name: str, target: float) -> int | None:
            found = reading.values(seen, name)
            return (
                None if found is None else hpa.external(sum(found), target, current=seen.replicas)
            )

        alive = reading.values(seen, "alive")
        keep = (
            None
            if alive is None
            else hpa.value(sum(alive), 1, ready=reading.ready(seen), current=seen.replicas)
        )
        others = [
            count("running", self.target),
            count("output", 20 * self.target),
            count("prompt", 20 * self.target),
        ]
        return [keep, *others] if self.keepalive else others[:1]


class ProductionStackOperatorRepaired(ProductionStackOperator):
    """Running requests alone: without the keepalive, which blocks each step down, and without the token triggers."""

    keepalive = False


class Kaito(Hpa):
    """The scaler returns the mean of waiting requests and the HPA divides by the target again, whatever the count."""

    behavior = hpa.Behavior(
        up_window=60.0,
        up=(hpa.Rule("Pods", 1, 300),),
        down_window=300.0,
        down=(hpa.Rule("Pods", 1, 600),),
    )
    repaired: ClassVar[bool] = False

    def queries(self) -> Mapping[str, Expression]:
        """Each pod's waiting requests."""
        return {"waiting": reading.each(contract.WAITING)}

    def proposals(self, seen: Seen) -> list[int | None]:
        """Pods without a value count 0 for growth and 1.5 times the target for shrinking."""
        found = reading.by_pod(seen, "waiting")
        if not found:
            return [None]
        silent = max(0, reading.ready(seen) - len(found))
        middle = sum(found.values()) / len(found)
        fill = 0.0 if middle > self.target else 1.5 * self.target
        total = sum(found.values()) + silent * fill
        if not self.repaired:
            total /= len(found) + silent
        return [hpa.external(total, self.target, current=seen.replicas)]


class KaitoRepaired(Kaito):
    """The total instead of the mean, and steps as the HPA's own defaults allow."""

    behavior = hpa.Behavior()
    repaired = True


class Ome(Hpa):
    """KEDA on median TPOT with AverageValue, as OME's documentation shows: a count that ignores the count."""

    repaired: ClassVar[bool] = False

    def queries(self) -> Mapping[str, Expression]:
        """The mean stands for the median, which the sum and the count give without buckets."""
        return {
            "sum": reading.rate(f"{contract.TPOT}_sum", 60),
            "count": reading.rate(f"{contract.TPOT}_count", 60),
        }

    def proposals(self, seen: Seen) -> list[int | None]:
        """`ceil(latency / target)`; repaired: times the ready pods."""
        if reading.values(seen, "count") is None:
            return [None]
        latency = reading.ratio(seen, "sum", "count") or 0.0
        if self.repaired:
            ready = reading.ready(seen)
            return [hpa.value(latency, self.target, ready=ready, current=seen.replicas)]
        return [hpa.external(latency, self.target, current=seen.replicas)]


class OmeRepaired(Ome):
    """Target type Value: latency in proportion to the count."""

    repaired = True
