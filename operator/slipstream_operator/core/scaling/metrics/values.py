"""Values of measurements. A value that is absent, stale or NaN is `Unknown`, and never zero."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from slipstream_operator.core import histograms, objectives

_TELLING: Final = 5.0
"""Requests of a rate window below which a percentile is too uncertain to report."""


@dataclasses.dataclass(frozen=True)
class Unknown:
    """Missing value, with the reason."""

    reason: str


class Sample(NamedTuple):
    """One series of an instant query."""

    labels: Mapping[str, str]
    value: float


RawSample: TypeAlias = tuple[bytes, float]
"""Sample whose labels are still JSON without spaces: equal labels, which are many, are parsed once."""

Samples: TypeAlias = Mapping[str, Sequence[Sample] | Unknown]
"""Query name -> its result."""


@dataclasses.dataclass(frozen=True, slots=True)
class PodLoad:
    """Load of one replica: gauges, their means over the rate window, and rates per second."""

    running: float
    waiting: float
    kv: float
    running_mean: float
    waiting_mean: float
    kv_mean: float
    output: float = 0.0
    """Generated tokens."""
    prompt: float = 0.0
    """Computed prompt tokens."""
    steps: float = 0.0
    itl_sum: float = 0.0
    itl_count: float = 0.0
    started: float = 0.0
    """Requests with a first token."""
    finished: float = 0.0
    rejected: float = 0.0
    preempted: float = 0.0
    settled: bool = dataclasses.field(default=True, kw_only=True)
    """Whether the pod was ready for a rate window, and its values are measured, not estimated."""


@dataclasses.dataclass(frozen=True)
class Load:
    """Load of the ready engines. A silent engine counts as the median of the others."""

    pods: tuple[PodLoad, ...]
    complete: bool
    """Whether enough of the ready pods reported, each with all values."""
    arrivals: float | None = None
    """Requests per second at the router; None without a router."""
    surge: float | None = None
    """Requests per second over half of the window, in which a jump shows earlier."""
    cancelled: float = 0.0
    """Cancelled requests per second, over half of the window; clients may retry them."""
    output_length: float | None = None
    """Mean output tokens of a request in the last 5 minutes."""
    prompt_length: float | None = None
    kv_tokens: int | None = None
    """KV capacity of one engine in tokens."""

    @property
    def running(self) -> float:
        """Requests in the engines' batches now."""
        return sum([pod.running for pod in self.pods])

    @property
    def waiting(self) -> float:
        """Requests that wait in or in front of the engines now."""
        return sum([pod.waiting for pod in self.pods])

    @property
    def in_flight(self) -> float:
        """Running and waiting requests now."""
        return self.running + self.waiting

    @property
    def kv_usage(self) -> float:
        """Share of the KV cache in use, of the fullest pod."""
        return max([pod.kv for pod in self.pods], default=0.0)

    @property
    def tokens_per_second(self) -> float:
        """Output tokens per second."""
        return sum([pod.output for pod in self.pods])


@dataclasses.dataclass(frozen=True)
class Reading:
    """Measurement of one latency objective; `current` in seconds, None without traffic."""

    objective: objectives.Objective
    current: float | None
    requests: float
    attainment: Mapping[str, float | None]
    """Share of the requests within the target, by span: `5m`, `1h`, `1d`."""
    now: histograms.Histogram = histograms.EMPTY
    """Latencies over the rate window."""
    recent: histograms.Histogram = histograms.EMPTY
    """Latencies over 5 minutes."""

    @functools.cached_property
    def attained(self) -> float | None:
        """Share of the requests within the target now, by lognormal interpolation; None without traffic."""
        return histograms.lognormal_attainment(self.now, self.objective.target)

    @property
    def telling(self) -> bool:
        """Whether there were enough requests for a percentile."""
        return self.requests >= _TELLING

    @property
    def pressure(self) -> float | None:
        """Measured latency over its target; more than 1 is too slow."""
        return None if self.current is None else self.current / self.objective.target

    @property
    def over(self) -> bool:
        """Whether the measured percentile is over its target."""
        return (self.pressure or 0.0) > 1


@dataclasses.dataclass(frozen=True)
class BatchSpeculation:
    """Draft tokens that the engines of a revision use at some batch sizes; means over the engines."""

    batch: int
    """Largest batch size; the smallest one is just above half of it."""
    tokens: float
    """Draft tokens per request and step."""
    gain: float | None
    """Output tokens per second over those without draft tokens; None while unknown."""


@dataclasses.dataclass(frozen=True)
class DraftTokens:
    """Draft tokens of one revision's engines in the last ten minutes."""

    drafted: float
    accepted: float

    @property
    def acceptance(self) -> float:
        """Share of the draft tokens that were accepted."""
        return self.accepted / self.drafted
