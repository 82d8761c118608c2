"""Scenario of `slipstream simulate`: the traffic, engine, limits and faults of one model."""

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

import pydantic
import yaml
from pydantic import AfterValidator, Field, model_validator

from slipstream_operator.api.slo import SloSpec
from slipstream_operator.core import objectives
from slipstream_runtime.simulator import model
from slipstream_simulator.distributions import Length, LognormalTime, Time
from slipstream_simulator.events import Event
from slipstream_simulator.quantities import (
    Part,
    Seconds,
    Share,
    ordered,
)

API_VERSION: Final = "simulation.slipstream.dev/v1alpha1"

Points: TypeAlias = Annotated[
    tuple[tuple[Seconds, Annotated[float, Field(ge=0)]], ...], AfterValidator(ordered)
]
"""Values at times: linear in between, constant before the first and after the last."""
Lengths: TypeAlias = Length | Annotated[tuple[tuple[Seconds, Length], ...], AfterValidator(ordered)]
"""One distribution, or several at times; between two times, the share of the later one grows."""


class ScenarioError(ValueError):
    """Error for an invalid scenario; the message names field, value, reason and remedy."""


class EngineSpec(Part):
    """Engine whose step takes alpha + beta b + gamma K + delta p seconds.

    b is the number of sequences, K the tokens in the KV cache, and p the prompt tokens of the step."""

    alpha: Seconds = 0.007
    beta: Seconds = 20e-6
    gamma: Seconds = 45e-9
    delta: Seconds = 32e-6
    kv_tokens: int = Field(default=120_000, ge=1)
    max_sequences: int = Field(default=256, ge=1)
    max_batched_tokens: int = Field(default=8192, ge=1)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        self.parameters()
        return self

    def parameters(self) -> model.Parameters:
        """Return the parameters of the engine model."""
        return model.Parameters(**self.model_dump())


class ScalingSpec(Part):
    """Limits of the replica count."""

    min_replicas: int = Field(default=1, ge=0)
    max_replicas: int = Field(default=32, ge=1, le=512)
    initial_replicas: int | None = Field(default=None, ge=0, description="minReplicas if absent.")
    idle_after: Seconds = Field(
        default=600.0,
        description="With minReplicas 0: time without requests before there are none.",
    )
    grace: Seconds = Field(default=64.0, description="Time that a removed pod gets to finish.")
    capacity: int | None = Field(
        default=None, ge=0, description="Pods that the cluster has room for; no limit if absent."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.min_replicas <= self.initial <= self.max_replicas:
            raise ValueError(
                f"minReplicas {self.min_replicas} <= initialReplicas {self.initial} <= maxReplicas "
                f"{self.max_replicas} does not hold: change one of them"
            )
        return self

    @property
    def initial(self) -> int:
        """Return the number of replicas that are ready at the start."""
        return self.min_replicas if self.initial_replicas is None else self.initial_replicas


class MetricsSpec(Part):
    """Scrapes of the pods by Prometheus."""

    scrape: Seconds = Field(default=15.0, ge=1)
    lag: Seconds = Field(default=0.0, ge=0, description="From a scrape until queries see it.")


class ClientSpec(Part):
    """Clients: they leave after `timeout` unless they have the first token, and retry."""

    timeout: Seconds | None = None
    retries: int = Field(default=0, ge=0, le=10)
    backoff: Seconds = Field(default=1.0, gt=0, description="From a failure to the next attempt.")


class Diurnal(Part):
    """Cosine between trough and peak."""

    peak: float = Field(ge=0)
    trough: float = Field(ge=0)
    period: Seconds = Field(gt=0)
    peak_at: Seconds = Field(default=0.0, description="Time of a peak.")


class Drift(Part):
    """Random factor on the rate: exp of an Ornstein-Uhlenbeck process."""

    sd: float = Field(gt=0, le=2)
    tau: Seconds = Field(gt=0)


class Arrivals(Part):
    """Arrivals of requests: `rate` or `diurnal`, times `scale` and `drift`; or the times of a file."""

    process: Literal["poisson", "gamma", "even", "trace"] = "poisson"
    rate: Points | Annotated[float, Field(ge=0)] | None = None
    diurnal: Diurnal | None = None
    scale: Points | None = None
    drift: Drift | None = None
    cv: Points | Annotated[float, Field(gt=0, le=20)] = 1.0
    file: Path | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in ("rate", "diurnal", "file") if getattr(self, name) is not None]
        wanted = ["file"] if self.process == "trace" else ["rate", "diurnal"]
        if len(given) != 1 or given[0] not in wanted:
            raise ValueError(
                f"process {self.process} needs exactly one of {' and '.join(wanted)}, "
                f"not {' and '.join(given) or 'nothing'}"
            )
        return self


class Prefix(Part):
    """Shared prefixes: with probability `hitRate`, a warm cache holds `share` of the prompt."""

    share: Share
    hit_rate: Share
    warmup: Seconds = Field(
        default=60.0, description="Time in which a new pod's cache fills to 63 %."
    )


class Traffic(Part):
    """One part of the traffic; the parts add up."""

    name: str | None = None
    arrivals: Arrivals
    prompt: Lengths | None = None
    output: Lengths | None = None
    prefix: Prefix | None = None
    priority: int = Field(
        default=0, ge=-100, le=100, description="Higher goes first in each engine."
    )
    deadline: Seconds | None = Field(
        default=None,
        description="Its objective instead of `slo`: the whole answer within this time.",
    )
    affinity: Share = Field(default=0.0, description="Share of its requests that go to one pod.")

    @model_validator(mode="after")
    def _has_lengths(self) -> Self:
        traced = self.arrivals.process == "trace"
        for field in ("prompt", "output"):
            if not traced and getattr(self, field) is None:
                raise ValueError(
                    f"{field} is missing: add for example {field}: {{distribution: fixed, value: 500}}"
                )
        return self


class Scenario(Part):
    """Everything that a run depends on, except the policy and the seed."""

    api_version: Literal["simulation.slipstream.dev/v1alpha1"]
    kind: Literal["Scenario"]
    name: str = Field(pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)
    description: str = ""
    duration: Seconds = Field(gt=0)
    warmup: Seconds = Field(default=0.0, ge=0, description="Not scored.")
    seeds: int = Field(default=5, ge=1, le=1000)
    engine: EngineSpec = EngineSpec()
    slo: SloSpec
    scaling: ScalingSpec = ScalingSpec()
    cold_start: Time = LognormalTime(distribution="lognormal", median=120.0, sigma=0.3)
    metrics: MetricsSpec = MetricsSpec()
    client: ClientSpec = ClientSpec()
    router: bool = Field(
        default=True,
        description="False: a plain Service, which fails without pods and picks by chance.",
    )
    traffic: tuple[Traffic, ...] = Field(min_length=1)
    events: tuple[Event, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.warmup >= self.duration:
            raise ValueError(
                f"warmup {self.warmup:g}s leaves nothing of duration {self.duration:g}s: shorten it"
            )
        if not objectives.combine(self.slo, tier=None).latency:
            raise ValueError("slo has no latency objective: add for example ttft: {p95: 1s}")
        for event in self.events:
            if event.at >= self.duration:
                raise ValueError(
                    f"the event at {event.at:g}s comes after the end at {self.duration:g}s: move it"
                )
        return self

    @property
    def objectives(self) -> objectives.Objectives:
        """Return the objectives of the fleet."""
        return objectives.combine(self.slo, tier=None)

    def during(self, kind: str, now: float) -> tuple[Event, ...]:
        """Return the events of a kind that are active at this time."""
        if not self.events:
            return ()
        return tuple(e for e in self.events if e.kind == kind and e.at <= now < e.until)


def load(path: Path) -> Scenario:
    """Read a scenario file, or raise ScenarioError with all its problems."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ScenarioError(
            f"{path}: {error.strerror}: give the path of a scenario file"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: not YAML: {error}") from error
    scenario = parse(data, what=str(path))
    return _with_files_beside(scenario, path.parent)


def parse(data: Any, *, what: str) -> Scenario:
    """Return the scenario from plain data, or raise ScenarioError with all its problems."""
    if not isinstance(data, dict):
        raise ScenarioError(
            f"{what}: a scenario is a mapping that begins with apiVersion: {API_VERSION}"
        )
    try:
        return Scenario.model_validate(data)
    except pydantic.ValidationError as error:
        problems = [_problem(problem) for problem in error.errors(include_url=False)]
        raise ScenarioError("\n".join(f"{what}: {problem}" for problem in problems)) from error


def _problem(problem: Any) -> str:
    """Return a message such as `traffic.0.prompt.mean: 5 is ...`, without pydantic's names of alternatives."""
    known = {"lognormal", "fixed", "exponential", "uniform", "mixture", "phases"}
    where = ".".join(
        str(part)
        for part in problem["loc"]
        if part not in known and not (isinstance(part, str) and "[" in part)
    )
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        return f"{where}: there is no such field: remove it or correct its name"
    if problem["type"] == "missing":
        return f"{where}: it is missing: add it"
    value = problem["input"]
    shown = "" if isinstance(value, dict | tuple | list) else f"{value!r}: "
    return f"{where or 'scenario'}: {shown}{message}"


def _with_files_beside(scenario: Scenario, folder: Path) -> Scenario:
    """Return the scenario with the paths of traces relative to its own folder."""
    pieces = [
        piece
        if piece.arrivals.file is None
        else piece.model_copy(
            update={
                "arrivals": piece.arrivals.model_copy(update={"file": folder / piece.arrivals.file})
            }
        )
        for piece in scenario.traffic
    ]
    return scenario.model_copy(update={"traffic": tuple(pieces)})
