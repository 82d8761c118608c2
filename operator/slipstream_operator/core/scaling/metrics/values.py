"""Values that measurements are made of. A value that is absent, stale or NaN is `Unknown`, and never zero."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from slipstream_operator.core import histograms, objectives

_TELLING: Final = 5.0
"""Requests in the rate window below which a percentile says nothing."""


@dataclasses.dataclass(frozen=True)
class Unknown:
    """There is no trustworthy value, and why."""

    reason: str


class Sample(NamedTuple):
    """One series of an instant query."""

    labels: Mapping[str, str]
    value: float


RawSample: TypeAlias = tuple[bytes, float]
"""A sample whose labels are still JSON without spaces: of equal ones, which a round has many of, one is read."""

Samples: TypeAlias = Mapping[str, Sequence[Sample] | Unknown]
"""Query name -> its result."""


@dataclasses.dataclass(frozen=True, slots=True)
class PodLoad:
    """Load of one replica: gauges now and as a mean over the rate window, and rates per second."""

    running: float
    waiting: float
    kv: float
    running_mean: float
    waiting_mean: float
    kv_mean: float
    output: float = 0.0
    """Tokens made."""
    prompt: float = 0.0
    """Prompt tokens computed."""
    steps: float = 0.0
    itl_sum: float = 0.0
    itl_count: float = 0.0
    started: float = 0.0
    """Requests that got their first token."""
    finished: float = 0.0
    rejected: float = 0.0
    preempted: float = 0.0
    settled: bool = dataclasses.field(default=True, kw_only=True)
    """Ready for longer than the rate window, and really measured."""


@dataclasses.dataclass(frozen=True)
class Load:
    """Load of the ready engines; a silent one is filled in by the median of the others."""

    pods: tuple[PodLoad, ...]
    complete: bool
    """Whether enough of the ready pods reported, and all of these everything."""
    arrivals: float | None = None
    """Requests per second as the router counts them; None without one."""
    surge: float | None = None
    """The same over half the window: a jump shows in it first."""
    cancelled: float = 0.0
    """Requests per second whose clients left, over half the window: as many may come again."""
    output_length: float | None = None
    """Mean tokens of the answers of the last minutes."""
    prompt_length: float | None = None
    kv_tokens: int | None = None
    """KV capacity of one engine, of which a replica has several with data parallelism."""

    @property
    def running(self) -> float:
        """Requests in the engines' batches now."""
        return sum([pod.running for pod in self.pods])

    @property
    def waiting(self) -> float:
        """Requests that wait in or before the engines now."""
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
    """By span: `5m`, `1h`, `1d`."""
    now: histograms.Histogram = histograms.EMPTY
    """Over the rate window."""
    recent: histograms.Histogram = histograms.EMPTY
    """Over 5 minutes."""

    @functools.cached_property
    def attained(self) -> float | None:
        """Share of the requests within the target now, by lognormal interpolation; None without traffic."""
        return histograms.lognormal_attainment(self.now, self.objective.target)

    @property
    def telling(self) -> bool:
        """Whether it was enough requests for a percentile to say something."""
        return self.requests >= _TELLING

    @property
    def pressure(self) -> float | None:
        """Measured over target: more than 1 is too slow."""
        return None if self.current is None else self.current / self.objective.target

    @property
    def over(self) -> bool:
        """Whether the measured percentile is over its target."""
        return (self.pressure or 0.0) > 1


@dataclasses.dataclass(frozen=True)
class DraftTokens:
    """Draft tokens of one revision's engines in the last ten minutes."""

    drafted: float
    accepted: float

    @property
    def acceptance(self) -> float:
        """Share of the draft tokens that were accepted."""
        return self.accepted / self.drafted
