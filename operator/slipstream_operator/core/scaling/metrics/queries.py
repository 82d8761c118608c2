"""Queries of the scaling loop. Their number does not depend on the number of services.

Every engine series carries the target labels `namespace`, `service`, `revision` and `pod`. A pod that is scraped more
than once has several copies of each series, which differ in other labels, such as `job` or `prometheus_replica`. Each
query first takes one copy.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from slipstream_operator.core import objectives
from slipstream_operator.core.scaling.metrics.promql import (
    Age,
    Binary,
    By,
    Expression,
    Over,
    Series,
)
from slipstream_runtime import contract

Queries: TypeAlias = Mapping[str, Expression]
"""Name -> expression."""
Bounds: TypeAlias = Mapping[str, tuple[str, ...]]
"""Metric -> upper bounds of the buckets to select, as Prometheus writes them; of other metrics all."""
ALL: Final[Bounds] = {}

_POD: Final = ("namespace", "service", "pod")
_SERVICE: Final = ("namespace", "service")
_REVISION: Final = ("namespace", "service", "revision")
OWN: Final = (
    "model_name",
    "engine",
    "finished_reason",
    "source",
    "reason",
    "phase",
    "le",
    contract.CAUSE_LABEL,
    contract.PART_LABEL,
    contract.KIND_LABEL,
    contract.BATCH_LABEL,
)
"""Labels that engines and routers write themselves, in all metrics that are queried. A test compares them with what the
processes export. All other labels come from the scrape."""
LATENCY: Final = dict(
    zip(objectives.METRICS, (contract.TTFT, contract.TPOT, contract.E2E), strict=True)
)

RUNNING, WAITING, KV_USAGE, AGE = "running", "waiting", "kv", "age"
RUNNING_MEAN, WAITING_MEAN, KV_MEAN = "running_mean", "waiting_mean", "kv_mean"
OUTPUT, PROMPT, STEPS = "output", "prompt", "steps"
ITL_SUM, ITL_COUNT = "itl_sum", "itl_count"
STARTED, FINISHED, REJECTED, PREEMPTED = "started", "finished", "rejected", "preempted"
OUTPUT_LENGTHS, OUTPUT_COUNT = "output_lengths", "output_count"
PROMPT_LENGTHS, PROMPT_COUNT = "prompt_lengths", "prompt_count"
ARRIVALS, SURGE, CANCELLED, HELD = "arrivals", "surge", "cancelled", "held"
DRAFTED, ACCEPTED, KV_TOKENS, ADAPTERS = "drafted", "accepted", "kv_tokens", "adapters"
GAIN, SEQUENCES = "gain", "sequences"
BATCH_TOKENS, BATCH_GAIN = "batch_tokens", "batch_gain"
COMPARED: Final = "compared"
COMPARED_LABELS: Final = (
    contract.REVISION_LABEL,
    contract.WEIGHT_LABEL,
    contract.SINCE_LABEL,
    contract.MEASURE_LABEL,
    contract.STATISTIC_LABEL,
    contract.STRATUM_LABEL,
    "le",
)
"""Labels that routers write in the totals of revisions that share requests."""
ENGINE_TIMES, ROUTER_TIMES = "engine_times", "router_times"
STEP_SECONDS, STEP_COUNTS, STEP_SEQUENCES = "step_seconds", "step_counts", "step_sequences"
PROFILE: Final = frozenset((ENGINE_TIMES, ROUTER_TIMES, STEP_SECONDS, STEP_COUNTS, STEP_SEQUENCES))
"""Queries of the profile."""
LENGTHS: Final = (OUTPUT_LENGTHS, OUTPUT_COUNT, PROMPT_LENGTHS, PROMPT_COUNT)
PER_POD: Final = (
    RUNNING,
    WAITING,
    KV_USAGE,
    RUNNING_MEAN,
    WAITING_MEAN,
    KV_MEAN,
    OUTPUT,
    PROMPT,
    STEPS,
    ITL_SUM,
    ITL_COUNT,
    STARTED,
    FINISHED,
    REJECTED,
    PREEMPTED,
    AGE,
)
"""Queries for one number of each pod, in the order of the fields of PodLoad, and the age."""
TOTALS: Final = (
    ARRIVALS,
    SURGE,
    CANCELLED,
    HELD,
    *LENGTHS,
)
"""Queries for one number of each service."""
SPANS: Final = {"5m": 300.0, "1h": 3600.0, "1d": 86400.0}
"""Long ranges of latencies, in seconds."""
LONG: Final = ("1h", "1d")
"""Spans of which only the share of requests within the targets is needed, not the whole histogram."""


def every_tick(*, window: float) -> Queries:
    """Return the queries of each decision; rates over `window` seconds."""
    return {**_gauges(window), **_rates(window), **_of_service(window)}


def every_scrape(*, window: float, metrics: Iterable[str] = objectives.METRICS) -> Queries:
    """Return the queries of latencies over `window`, which change only with each scrape and have most series."""
    return _latencies("now", window, metrics)


def every_minute(
    *,
    metrics: Iterable[str] = objectives.METRICS,
    spans: Iterable[str] = tuple(SPANS),
    bounds: Bounds = ALL,
) -> Queries:
    """Return the queries of slow feedback (5 minutes) and of status (long ranges).

    `bounds` are the buckets to select over an hour and a day, by metric; all if a metric has none.
    """
    metrics = tuple(metrics)
    latencies = {
        name: query
        for span in spans
        for name, query in _latencies(
            span, SPANS[span], metrics, bounds if span in LONG else ALL
        ).items()
    }
    lengths = {
        OUTPUT_LENGTHS: _increase(f"{contract.OUTPUT_LENGTH}_sum", 300.0, _SERVICE),
        OUTPUT_COUNT: _increase(f"{contract.OUTPUT_LENGTH}_count", 300.0, _SERVICE),
        PROMPT_LENGTHS: _increase(f"{contract.PROMPT_LENGTH}_sum", 300.0, _SERVICE),
        PROMPT_COUNT: _increase(f"{contract.PROMPT_LENGTH}_count", 300.0, _SERVICE),
    }
    return {**latencies, **lengths}


def of_rollouts() -> Queries:
    """Return the query of the totals of revisions that share requests.

    NB: these are the newest samples and not rates, which would count a part of the values of a new router only.
    """
    return {COMPARED: By("max", (*_POD, *COMPARED_LABELS), Series(contract.ROUTER_COMPARED))}


def profile() -> Queries:
    """Return the queries of where time goes, over 5 minutes; they belong into one round."""
    cause, kind = contract.CAUSE_LABEL, contract.KIND_LABEL
    return {
        ENGINE_TIMES: _increase(
            contract.ENGINE_TIME, 300.0, (*_SERVICE, contract.PART_LABEL, cause)
        ),
        ROUTER_TIMES: _increase(contract.ROUTER_TIME, 300.0, (*_SERVICE, cause)),
        STEP_SECONDS: _increase(contract.STEP_TIME, 300.0, (*_SERVICE, kind)),
        STEP_COUNTS: _increase(contract.STEP_COUNT, 300.0, (*_SERVICE, kind)),
        STEP_SEQUENCES: _increase(contract.STEP_SEQUENCES, 300.0, (*_SERVICE, kind)),
    }


def latency(metric: str, span: str) -> str:
    """Name of the query for a latency histogram over a span: `now`, `5m`, `1h` or `1d`."""
    return f"{metric}:{span}"


def once(of: Series | Over, labels: tuple[str, ...] = ()) -> By:
    """Return one copy of each series of a pod, with its own labels and `labels`, however often it is scraped.

    NB: `revision` is no label of its own, because a ServiceMonitor does not set it.
    """
    return By("max", tuple(dict.fromkeys((*_POD, *labels, *OWN))), of)


def _gauges(window: float) -> Queries:
    running, kv = Series(contract.RUNNING), Series(contract.KV_USAGE)
    # NB: engines don't know of requests that wait in front of them; `or` adds these series, which have other labels.
    waiting, queued = Series(contract.WAITING), Series(contract.QUEUED)

    def mean(of: Series) -> By:
        return once(Over("avg_over_time", of, window))

    return {
        RUNNING: By("sum", _POD, once(running)),
        WAITING: By("sum", _POD, Binary(once(waiting), "or", once(queued))),
        KV_USAGE: By("max", _POD, kv),
        AGE: By("min", _POD, Age(running)),
        RUNNING_MEAN: By("sum", _POD, mean(running)),
        WAITING_MEAN: By("sum", _POD, Binary(mean(waiting), "or", mean(queued))),
        KV_MEAN: By("avg", _POD, mean(kv)),
    }


def _rates(window: float) -> Queries:
    computed = Series(contract.COMPUTED_PROMPT_TOKENS, {"source": "local_compute"})
    return {
        OUTPUT: _rate(contract.GENERATION_TOKENS, window),
        PROMPT: Binary(
            By("sum", _POD, once(Over("rate", computed, window))),
            "or",
            _rate(contract.PROMPT_TOKENS, window),
        ),
        STEPS: _rate(f"{contract.ITERATION_TOKENS}_count", window),
        ITL_SUM: _rate(f"{contract.ITL}_sum", window),
        ITL_COUNT: _rate(f"{contract.ITL}_count", window),
        STARTED: _rate(f"{contract.TTFT}_count", window),
        FINISHED: _rate(contract.REQUEST_SUCCESS, window),
        REJECTED: _rate(contract.REJECTIONS, window),
        PREEMPTED: _rate(contract.PREEMPTIONS, window),
    }


def _of_service(window: float) -> Queries:
    info = ("namespace", "service", "block_size", "num_gpu_blocks")
    return {
        ARRIVALS: By("sum", _SERVICE, once(Over("rate", Series(contract.ROUTER_REQUESTS), window))),
        SURGE: By(
            "sum", _SERVICE, once(Over("rate", Series(contract.ROUTER_REQUESTS), window / 2))
        ),
        CANCELLED: By(
            "sum", _SERVICE, once(Over("rate", Series(contract.ROUTER_CANCELLED), window / 2))
        ),
        HELD: By("sum", _SERVICE, once(Series(contract.ROUTER_QUEUED))),
        DRAFTED: _increase(contract.DRAFT_TOKENS, 600.0, _REVISION),
        ACCEPTED: _increase(contract.ACCEPTED_TOKENS, 600.0, _REVISION),
        GAIN: By("avg", _REVISION, once(Series(contract.SPECULATION_GAIN), _REVISION)),
        BATCH_TOKENS: _by_batch(contract.SPECULATION_TOKENS),
        BATCH_GAIN: _by_batch(contract.SPECULATION_BATCH_GAIN),
        # NB: vLLM's blocks are summed over data-parallel engines, and say little of a cache of several kinds of layers.
        KV_TOKENS: Binary(
            By("min", _SERVICE, Series(contract.KV_CAPACITY)),
            "or",
            By("max", info, Series(contract.CACHE_INFO)),
        ),
        SEQUENCES: By("min", _REVISION, Series(contract.SEQUENCES)),
        ADAPTERS: By("min", (*_SERVICE, contract.ADAPTER_LABEL), Series(contract.ADAPTER_LOADED)),
    }


def _by_batch(metric: str) -> By:
    labels = (*_REVISION, contract.BATCH_LABEL)
    return By("avg", labels, once(Series(metric), labels))


def near(scales: Iterable[tuple[float, ...]], targets: Iterable[float]) -> set[float]:
    """Return the bucket bounds from which the share of requests within a target is interpolated."""
    targets = tuple(targets)
    return {
        bound
        for scale in scales
        for place in (bisect_left(scale, target) for target in targets)
        for bound in (*scale[max(0, place - 1) : place + 1], scale[-1])
    }


def _latencies(span: str, over: float, metrics: Iterable[str], bounds: Bounds = ALL) -> Queries:
    labels = (*_SERVICE, "le")
    return {
        latency(metric, span): _increase(
            f"{LATENCY[metric]}_bucket", over, labels, bounds=bounds.get(metric, ())
        )
        for metric in metrics
    }


def _rate(metric: str, window: float) -> By:
    return By("sum", _POD, once(Over("rate", Series(metric), window)))


def _increase(
    metric: str, seconds: float, labels: tuple[str, ...], *, bounds: tuple[str, ...] = ()
) -> By:
    of = once(Over("increase", Series(metric, bounds=bounds), seconds), labels)
    return By("sum", labels, of)
