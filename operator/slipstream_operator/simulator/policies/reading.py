"""What peers read: sums and means of query results, with what is missing told from zero."""

import math
import statistics

from slipstream_operator.core.scaling.promql import By, Expression, Over, Series
from slipstream_operator.core.scaling.signals import Unknown
from slipstream_operator.simulator.policies.policy import Seen
from slipstream_runtime import contract

POD = ("pod",)


def values(seen: Seen, name: str) -> list[float] | None:
    """The finite values of a result; None if Prometheus did not answer."""
    result = seen.samples.get(name)
    if result is None or isinstance(result, Unknown):
        return None
    return [sample.value for sample in result if math.isfinite(sample.value)]


def total(seen: Seen, name: str) -> float | None:
    """The sum; None without an answer or without series."""
    found = values(seen, name)
    return sum(found) if found else None


def mean(seen: Seen, name: str) -> float | None:
    """The mean over series; None without an answer or without series."""
    found = values(seen, name)
    return statistics.fmean(found) if found else None


def by_pod(seen: Seen, name: str) -> dict[str, float] | None:
    """Pod -> value; None if Prometheus did not answer."""
    result = seen.samples.get(name)
    if result is None or isinstance(result, Unknown):
        return None
    return {
        sample.labels["pod"]: sample.value
        for sample in result
        if "pod" in sample.labels and math.isfinite(sample.value)
    }


def ratio(seen: Seen, over: str, under: str) -> float | None:
    """One total by another; None where either is missing or nothing was counted."""
    above, below = total(seen, over), total(seen, under)
    return above / below if above is not None and below else None


def ready(seen: Seen) -> int:
    """Pods that are ready and stay."""
    return sum(pod.ready and not pod.terminating for pod in seen.pods)


def summed(metric: str) -> Expression:
    """`sum by (service) (metric)`."""
    return By("sum", ("service",), Series(metric))


def each(metric: str) -> Expression:
    """One value a pod."""
    return By("sum", POD, Series(metric))


def rate(metric: str, seconds: float) -> Expression:
    """`sum by (service) (rate(metric[seconds]))`."""
    return By("sum", ("service",), Over("rate", Series(metric), seconds))


def highest(metric: str, seconds: float) -> Expression:
    """`max by (pod) (max_over_time(metric[seconds]))`."""
    return By("max", POD, Over("max_over_time", Series(metric), seconds))


PROMPTS, OUTPUTS = "vllm:request_prompt_tokens", "vllm:request_generation_tokens"


def lengths(seconds: float) -> dict[str, Expression]:
    """Sums and counts of prompt and output lengths of the requests that ended."""
    return {
        "prompt_sum": rate(f"{PROMPTS}_sum", seconds),
        "prompt_count": rate(f"{PROMPTS}_count", seconds),
        "output_sum": rate(f"{OUTPUTS}_sum", seconds),
        "output_count": rate(f"{OUTPUTS}_count", seconds),
    }


def in_flight() -> dict[str, Expression]:
    """What a proxy in front of the engines counts: running, waiting and held."""
    return {
        "running": summed(contract.RUNNING),
        "waiting": summed(contract.WAITING),
        "held": summed(contract.ROUTER_HELD),
    }


def concurrency(seen: Seen) -> float | None:
    """Requests in flight as a proxy counts them; None if nothing of it is known."""
    known = [total(seen, name) for name in ("running", "waiting", "held")]
    present = [value for value in known if value is not None]
    return sum(present) if present else None
