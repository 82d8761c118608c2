"""Faults of a scenario: each starts at a given time, and some end."""

import functools
import math
from typing import Final, Literal, Self

from pydantic import Field, model_validator

from slipstream_simulator.quantities import Part, Seconds, Share


class Pods(Part):
    """Number of pods that are lost, the oldest first."""

    pods: int = Field(ge=1)


class Slow(Part):
    """Pods that run slower, the oldest first."""

    count: int = Field(ge=1)
    speed: float = Field(gt=0, le=10)


_FOREVER: Final = math.inf


class Event(Part):
    """One fault of exactly one kind."""

    at: Seconds
    lasting: Seconds = Field(default=_FOREVER, alias="for", description="To the end if absent.")
    metrics_outage: Seconds | None = Field(
        default=None, description="Prometheus is down: no answers, and no samples of that time."
    )
    lose_pods: Share | None = Field(
        default=None, description="Share of the pods that vanish at once."
    )
    restore: Seconds | None = Field(
        default=None, description="After losePods: when their GPUs are there again."
    )
    slow_pod: Slow | None = None
    freeze_series: Pods | None = Field(
        default=None, description="The values of the oldest pods stand still."
    )
    drop_series: Pods | None = Field(default=None, description="Their scrapes fail.")
    nan_series: Pods | None = Field(default=None, description="Their values are NaN.")
    reset_counters: Pods | None = Field(default=None, description="Their counters start from 0.")
    empty_queries: Literal[True] | None = Field(
        default=None, description="Prometheus answers, with no series."
    )
    noise: Share | None = Field(
        default=None, description="Standard deviation of a factor on gauges and on increments."
    )
    lose_scrapes: Share | None = Field(default=None, description="Share of the scrapes that fail.")
    metrics_lag: Seconds | None = Field(default=None, description="Samples come so much later.")
    restart_operator: Literal[True] | None = None
    fail_starts: Share | None = Field(
        default=None, description="Share of the starts that end in a crash."
    )
    quota: int | None = Field(default=None, ge=0, description="No more pods than these.")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = [name for name in KINDS if getattr(self, _attribute(name)) is not None]
        if len(given) != 1:
            raise ValueError(
                f"{' and '.join(given)} in one event: give each an entry of its own"
                if given
                else f"an event needs one of {', '.join(KINDS)}, for example metricsOutage: 20m"
            )
        if self.restore is not None and self.lose_pods is None:
            raise ValueError("restore belongs to losePods: remove it, or use `for`")
        return self

    @functools.cached_property
    def kind(self) -> str:
        """Return the name of its kind, for example `metrics_outage`."""
        (given,) = (n for n in map(_attribute, KINDS) if getattr(self, n) is not None)
        return given

    @property
    def until(self) -> float:
        """Return the time at which it ends; infinity if it doesn't."""
        if self.metrics_outage is not None:
            return self.at + self.metrics_outage
        if self.lose_pods is not None:
            return self.at + (math.inf if self.restore is None else self.restore)
        return self.at + self.lasting


KINDS: Final = (
    "metricsOutage", "losePods", "slowPod", "freezeSeries", "dropSeries", "nanSeries", "resetCounters",
    "emptyQueries", "noise", "loseScrapes", "metricsLag", "restartOperator", "failStarts", "quota",
)  # fmt: skip


def _attribute(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
