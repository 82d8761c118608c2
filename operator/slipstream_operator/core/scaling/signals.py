"""From samples to signals. What is absent, stale or NaN is Unknown, a type of its own, and never zero."""

import dataclasses
import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from slipstream_operator.core import objectives
from slipstream_operator.core.observed import Key
from slipstream_operator.core.scaling import queries
from slipstream_operator.core.speculation import Gain, Guesses
from slipstream_runtime import contract

COMPLETE: Final = 0.8
"""Share of the ready pods that must report before their load says anything about the service."""


@dataclasses.dataclass(frozen=True)
class Unknown:
    """There is no trustworthy value, and why."""

    reason: str


@dataclasses.dataclass(frozen=True)
class Sample:
    """One series of an instant query."""

    labels: Mapping[str, str]
    value: float


Samples: TypeAlias = Mapping[str, Sequence[Sample] | Unknown]
"""Query name -> its result."""


@dataclasses.dataclass(frozen=True)
class Load:
    """What the ready engines carry, all pods together unless said; silent pods are filled in by the median."""

    in_flight: float
    """Running and waiting requests now."""
    in_flight_mean: float
    """The same, averaged over the rate window."""
    waiting: float
    kv_usage: float
    """Share of the KV cache in use, of the fullest pod."""
    tokens_per_second: float
    complete: bool
    """Whether every ready pod reported."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """What is measured for one latency objective; `current` in seconds, None without traffic."""

    objective: objectives.Objective
    current: float | None
    requests: float
    attainment: Mapping[str, float | None]
    """By span: `5m`, `1h`, `1d`."""

    @property
    def pressure(self) -> float | None:
        """Measured over target: more than 1 is too slow."""
        return None if self.current is None else self.current / self.objective.target


def load(samples: Samples, key: Key, *, pods: Collection[str], max_age: float) -> Load | Unknown:
    """Load of the ready pods; Unknown if none is ready, or too few of them report."""
    if not pods:
        return Unknown("no engine is ready")
    by_query: dict[str, dict[str, float]] = {}
    for name in (
        queries.RUNNING,
        queries.WAITING,
        queries.KV_USAGE,
        queries.AGE,
        queries.IN_FLIGHT_MEAN,
        queries.TOKENS,
    ):
        result = samples.get(name, Unknown(f"query {name} was not answered"))
        if isinstance(result, Unknown):
            return result
        by_query[name] = {
            sample.labels["pod"]: sample.value
            for sample in _of(result, key)
            if sample.labels.get("pod") in pods
        }
    reporting = [
        pod
        for pod in sorted(pods)
        if by_query[queries.AGE].get(pod, math.inf) <= max_age
        and all(pod in by_query[name] for name in (queries.RUNNING, queries.WAITING))
    ]
    if len(reporting) < COMPLETE * len(pods):
        return Unknown(f"{len(reporting)} of {len(pods)} ready engines report")

    def total(name: str) -> float:
        values = [by_query[name].get(pod, 0.0) for pod in reporting]
        return sum(values) + statistics.median(values) * (len(pods) - len(reporting))

    return Load(
        in_flight=total(queries.RUNNING) + total(queries.WAITING),
        in_flight_mean=total(queries.IN_FLIGHT_MEAN),
        waiting=total(queries.WAITING),
        kv_usage=max(by_query[queries.KV_USAGE].get(pod, 0.0) for pod in reporting),
        tokens_per_second=total(queries.TOKENS),
        complete=len(reporting) == len(pods),
    )


def readings(
    samples: Samples, key: Key, wanted: objectives.Objectives
) -> tuple[Reading, ...] | Unknown:
    """One reading per latency objective; Unknown if Prometheus did not answer."""
    found = []
    for objective in wanted.latency:
        now = histogram(samples, key, objective.metric, "now")
        if isinstance(now, Unknown):
            return now
        spans = {
            span: histogram(samples, key, objective.metric, span) for span in ("5m", "1h", "1d")
        }
        found.append(
            Reading(
                objective=objective,
                current=objectives.quantile(now, objective.share),
                requests=now.count,
                attainment={
                    span: None
                    if isinstance(measured, Unknown)
                    else objectives.attainment(measured, objective.target)
                    for span, measured in spans.items()
                },
            )
        )
    return tuple(found)


def histogram(samples: Samples, key: Key, metric: str, span: str) -> objectives.Histogram | Unknown:
    """The latency histogram of a service over a span."""
    result = samples.get(queries.latency(metric, span), Unknown("not asked"))
    if isinstance(result, Unknown):
        return result
    return objectives.histogram(
        [(float(sample.labels["le"]), sample.value) for sample in _of(result, key)]
    )


def guesses(samples: Samples, key: Key, *, revision: str) -> Guesses | None:
    """What this revision's engines guessed in the last ten minutes; None if nothing, or if it is not known."""
    counts = []
    for name in (queries.DRAFTED, queries.ACCEPTED):
        result = samples.get(name)
        if result is None or isinstance(result, Unknown):
            return None
        values = [
            sample.value for sample in _of(result, key) if sample.labels.get("revision") == revision
        ]
        if not values:
            return None
        counts.append(sum(values))
    drafted, accepted = counts
    return Guesses(drafted, accepted) if drafted else None


def gain(samples: Samples, key: Key, *, revision: str) -> Gain | None:
    """What speculation gains in this revision's engines, on average; None if it is not known."""
    result = samples.get(queries.GAIN)
    if result is None or isinstance(result, Unknown):
        return None
    bounds = {
        sample.labels.get(contract.BOUND_LABEL): sample.value
        for sample in _of(result, key)
        if sample.labels.get("revision") == revision
    }
    return Gain(bounds.get("lower"), bounds["upper"]) if "upper" in bounds else None


def kv_capacity(samples: Samples, key: Key) -> int | None:
    """KV capacity of one engine in tokens."""
    result = samples.get(queries.KV_TOKENS)
    if result is None or isinstance(result, Unknown):
        return None
    sizes = []
    for sample in _of(result, key):
        blocks, size = sample.labels.get("num_gpu_blocks", ""), sample.labels.get("block_size", "")
        if blocks.isdigit() and size.isdigit():
            sizes.append(int(blocks) * int(size))
    return min(sizes, default=None)


def adapters(samples: Samples, key: Key) -> Mapping[str, bool]:
    """LoRA adapter -> whether every engine has it loaded."""
    result = samples.get(queries.ADAPTERS)
    if result is None or isinstance(result, Unknown):
        return {}
    return {
        sample.labels.get(contract.ADAPTER_LABEL, ""): sample.value == 1
        for sample in _of(result, key)
    }


def _of(result: Sequence[Sample], key: Key) -> Iterable[Sample]:
    """The service's own samples; NaN and infinite values are missing."""
    return (
        sample
        for sample in result
        if sample.labels.get("namespace") == key.namespace
        and sample.labels.get("service") == key.name
        and math.isfinite(sample.value)
    )
