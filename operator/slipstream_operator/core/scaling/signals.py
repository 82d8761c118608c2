"""From samples to signals. What is absent, stale or NaN is Unknown, a type of its own, and never zero."""

import dataclasses
import functools
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from slipstream_operator.core import objectives
from slipstream_operator.core.observed import Key
from slipstream_operator.core.scaling import feedback, queries
from slipstream_operator.core.speculation import Guesses
from slipstream_runtime import contract

ENOUGH: Final = 0.5
"""Share of the ready pods that must report before their load says anything about the service."""
COMPLETE: Final = 0.8
"""Share of the ready pods that must report before a step down."""
_SETTLED: Final = 60.0
"""Seconds after its readiness within which a pod need not report yet."""


@dataclasses.dataclass(frozen=True)
class Unknown:
    """There is no trustworthy value, and why."""

    reason: str


class Sample(NamedTuple):
    """One series of an instant query."""

    labels: Mapping[str, str]
    value: float


_HUGE: Final = 1e300
_PER_POD: Final = (
    queries.RUNNING,
    queries.WAITING,
    queries.AGE,
    queries.KV_USAGE,
    queries.RUNNING_MEAN,
    queries.WAITING_MEAN,
    queries.KV_MEAN,
    queries.OUTPUT,
    queries.PROMPT,
    queries.STEPS,
    queries.ITL_SUM,
    queries.ITL_COUNT,
    queries.STARTED,
    queries.FINISHED,
    queries.REJECTED,
    queries.PREEMPTED,
)
"""In the order of the fields of PodLoad, but for the age."""

Samples: TypeAlias = Mapping[str, Sequence[Sample] | Unknown]
"""Query name -> its result."""


@dataclasses.dataclass(frozen=True, slots=True)
class PodLoad:
    """What one engine carries: gauges now and as a mean over the rate window, and rates per second."""

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
    """What the ready engines carry; a silent one is filled in by the median of the others."""

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
    """KV capacity of one engine."""

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
    """What is measured for one latency objective; `current` in seconds, None without traffic."""

    objective: objectives.Objective
    current: float | None
    requests: float
    attainment: Mapping[str, float | None]
    """By span: `5m`, `1h`, `1d`."""
    now: objectives.Histogram = objectives.EMPTY
    """Over the rate window."""
    recent: objectives.Histogram = objectives.EMPTY
    """Over 5 minutes."""

    @functools.cached_property
    def attained(self) -> float | None:
        """Share of the requests within the target now, by lognormal interpolation; None without traffic."""
        return feedback.attainment(self.now, self.objective.target)

    @property
    def pressure(self) -> float | None:
        """Measured over target: more than 1 is too slow."""
        return None if self.current is None else self.current / self.objective.target


class Grouped:
    """The samples of a tick, sorted by service once, so that a service's share costs no search."""

    def __init__(self, samples: Samples) -> None:
        self._failed: dict[str, Unknown] = {}
        self._found: dict[str, Mapping[tuple[str, str], Sequence[Sample]]] = {}
        for name, result in samples.items():
            if isinstance(result, Unknown):
                self._failed[name] = result
                continue
            by_service = defaultdict(list)
            for sample in result:
                value, labels = sample.value, sample.labels
                if value - value == 0 and "service" in labels:  # NB: NaN and infinite are missing
                    by_service[labels["namespace"], labels["service"]].append(sample)
            self._found[name] = by_service

    def of(self, key: Key) -> Samples:
        """The service's own samples."""
        service = (key.namespace, key.name)
        own = {name: found.get(service, ()) for name, found in self._found.items()}
        return {**own, **self._failed}


def load(
    samples: Samples, *, pods: Mapping[str, float], now: float, max_age: float
) -> Load | Unknown:
    """Load of the ready pods, given with the time since which they are; Unknown if too few of them report."""
    if not pods:
        return _at_the_router(samples) or Unknown("no engine is ready")
    series: list[dict[str, float]] = []
    for name in _PER_POD:
        result = samples.get(name)
        if result is None:
            return Unknown(f"query {name} was not answered")
        if isinstance(result, Unknown):
            return result
        series.append({sample.labels.get("pod", ""): sample.value for sample in result})
    running, waiting, ages = series[0], series[1], series[2]
    finished = series[
        _PER_POD.index(queries.FINISHED)
    ]  # NB: every engine has it, so no rate means no data
    rows: list[tuple[float, ...]] = []
    missing = 0
    settled_rows: list[bool] = []
    for pod in sorted(pods):
        settled = now - pods[pod] >= _SETTLED
        silent = pod not in running or pod not in waiting or (settled and pod not in finished)
        if silent or ages.get(pod, _HUGE) > max_age:
            missing += settled
            continue
        row = tuple([by_pod.get(pod, -1.0) for by_pod in series])
        rows.append(row)
        settled_rows.append(settled)
    reporting = len(rows)
    if reporting == 0 or reporting < ENOUGH * (reporting + missing):
        return Unknown(f"{reporting} of {len(pods)} ready engines report")
    found, complete = _filled(rows, settled_rows)
    if missing:
        found += [_median(found)] * missing
    return dataclasses.replace(
        _at_the_router(samples) or Load((), complete=True),
        pods=tuple(found),
        complete=complete and reporting >= COMPLETE * (reporting + missing),
        output_length=_ratio(samples, queries.OUTPUT_LENGTHS, queries.OUTPUT_COUNT),
        prompt_length=_ratio(samples, queries.PROMPT_LENGTHS, queries.PROMPT_COUNT),
        kv_tokens=kv_capacity(samples),
    )


def _at_the_router(samples: Samples) -> Load | None:
    """What comes, whether or not an engine is there to take it; None without a router."""
    arrivals = _total(samples, queries.ARRIVALS)
    if arrivals is None:
        return None
    return Load(
        pods=(),
        complete=False,
        arrivals=arrivals,
        surge=_total(samples, queries.SURGE),
        cancelled=_total(samples, queries.CANCELLED) or 0.0,
    )


def held(samples: Samples) -> float | None:
    """Requests that wait in the router for a replica; None without one."""
    return _total(samples, queries.HELD)


def _filled(
    rows: Sequence[tuple[float, ...]], settled: Sequence[bool]
) -> tuple[list[PodLoad], bool]:
    """A value that a pod lacks is the median of the others' if it should be there, and 0 if no engine has it or the
    pod is new. Negative values are missing."""
    if min([min(row) for row in rows]) >= 0:
        return [
            PodLoad(*row[:2], *row[3:], settled=old) for row, old in zip(rows, settled, strict=True)
        ], True
    complete = True
    columns = [list(column) for column in zip(*rows, strict=True)]
    for column in columns:
        if min(column) >= 0:
            continue
        present = [value for value in column if value >= 0]
        middle = statistics.median(present) if present else 0.0
        for index, value in enumerate(column):
            if value < 0:
                column[index] = middle if settled[index] else 0.0
                complete = complete and not (present and settled[index])
    del columns[2]  # ages
    return [
        PodLoad(*values, settled=old)
        for values, old in zip(zip(*columns, strict=True), settled, strict=True)
    ], complete


def _median(pods: Sequence[PodLoad]) -> PodLoad:
    names = [field.name for field in dataclasses.fields(PodLoad) if field.name != "settled"]
    values = {name: statistics.median([getattr(pod, name) for pod in pods]) for name in names}
    return PodLoad(**values, settled=False)


def _total(samples: Samples, name: str) -> float | None:
    result = samples.get(name)
    if not result or isinstance(result, Unknown):
        return None
    return sum([sample.value for sample in result])


def _ratio(samples: Samples, top: str, bottom: str) -> float | None:
    total, count = _total(samples, top), _total(samples, bottom)
    return total / count if total is not None and count else None


def readings(
    samples: Samples, wanted: objectives.Objectives, *, earlier: tuple[Reading, ...] = ()
) -> tuple[Reading, ...] | Unknown:
    """One reading per latency objective; Unknown if Prometheus did not answer.

    From `earlier` ones comes what was not asked anew.
    """
    kept = {reading.objective: reading for reading in earlier}
    found = []
    for objective in wanted.latency:
        before = kept.get(objective)
        if before is not None and samples.keys().isdisjoint(_names(objective.metric)):
            found.append(before)
            continue
        now = _latency(samples, objective, "now", before.now if before else None)
        if isinstance(now, Unknown):
            return now
        recent = _latency(samples, objective, "5m", before.recent if before else None)
        found.append(
            Reading(
                objective=objective,
                current=objectives.quantile(now, objective.share),
                requests=now.count,
                attainment={
                    span: _attained(samples, objective, span, before) for span in queries.SPANS
                },
                now=now,
                recent=objectives.EMPTY if isinstance(recent, Unknown) else recent,
            )
        )
    return tuple(found)


@functools.cache
def _names(metric: str) -> frozenset[str]:
    """All queries about the latencies of a metric."""
    return frozenset(queries.latency(metric, span) for span in ("now", *queries.SPANS))


def _attained(
    samples: Samples, objective: objectives.Objective, span: str, before: Reading | None
) -> float | None:
    if before is not None and queries.latency(objective.metric, span) not in samples:
        return before.attainment[span]
    found = _latency(samples, objective, span, None)
    return None if isinstance(found, Unknown) else objectives.attainment(found, objective.target)


def _latency(
    samples: Samples,
    objective: objectives.Objective,
    span: str,
    before: objectives.Histogram | None,
) -> objectives.Histogram | Unknown:
    """The latency histogram of a service over a span: the one before, if it was not asked anew."""
    result = samples.get(queries.latency(objective.metric, span))
    if result is None:
        return Unknown("not asked") if before is None else before
    if isinstance(result, Unknown):
        return result
    return objectives.histogram([(_bound(sample.labels["le"]), sample.value) for sample in result])


_bound = functools.cache(float)
"""NB: one object for each bound, as all histograms keep them."""


def guesses(samples: Samples, *, revision: str) -> Guesses | None:
    """What this revision's engines guessed in the last ten minutes; None if nothing, or if it is not known."""
    counts = []
    for name in (queries.DRAFTED, queries.ACCEPTED):
        result = samples.get(name)
        if result is None or isinstance(result, Unknown):
            return None
        values = [sample.value for sample in result if sample.labels.get("revision") == revision]
        if not values:
            return None
        counts.append(sum(values))
    drafted, accepted = counts
    return Guesses(drafted, accepted) if drafted else None


def gain(samples: Samples, *, revision: str) -> float | None:
    """What speculation gains at most in this revision's engines, on average; None if it is not known."""
    result = samples.get(queries.GAIN)
    if result is None or isinstance(result, Unknown):
        return None
    values = (one.value for one in result if one.labels.get("revision") == revision)
    return next(values, None)


def kv_capacity(samples: Samples) -> int | None:
    """KV capacity of one engine in tokens."""
    result = samples.get(queries.KV_TOKENS)
    if result is None or isinstance(result, Unknown):
        return None
    sizes = []
    for sample in result:
        blocks, size = sample.labels.get("num_gpu_blocks", ""), sample.labels.get("block_size", "")
        if blocks.isdigit() and size.isdigit():
            sizes.append(int(blocks) * int(size))
    return min(sizes, default=None)


def adapters(samples: Samples) -> Mapping[str, bool]:
    """LoRA adapter -> whether every engine has it loaded."""
    result = samples.get(queries.ADAPTERS)
    if result is None or isinstance(result, Unknown):
        return {}
    return {sample.labels.get(contract.ADAPTER_LABEL, ""): sample.value == 1 for sample in result}
