"""Signals from query results. An absent, stale or NaN value is Unknown, and never zero."""

import dataclasses
import functools
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from slipstream_operator.core import histograms, objectives
from slipstream_operator.core.scaling.metrics import queries
from slipstream_operator.core.scaling.metrics.query_results import ServiceResults
from slipstream_operator.core.scaling.metrics.values import (
    BatchSpeculation,
    DraftTokens,
    Load,
    PodLoad,
    Reading,
    Unknown,
)
from slipstream_runtime import contract

ENOUGH: Final = 0.5
"""Share of the ready pods that must report for the load of the service to be known."""
COMPLETE: Final = 0.8
"""Share of the ready pods that must report for a scale-down; new pods don't count, since they have no rates yet."""
_SILENT: Final = ". Check that Prometheus scrapes them"
_DIGITS: Final = re.compile(r"[0-9]{1,15}")
_MOST: Final = 1e15
"""Tokens or sequences from which on a reported capacity is implausible."""
_BATCHES: Final[Mapping[str, int]] = {str(2**size): 2**size for size in range(16)}
"""Label of a group of batch sizes -> its largest batch size."""
_SHOWN: Final = 5
"""Names of metrics that a remark lists."""
_SETTLED: Final = 60.0
"""Seconds after readiness within which a pod need not report: the default rate window."""
_FINISHED: Final = queries.PER_POD.index(queries.FINISHED)

_NO_ROUTER: Final = Load((), complete=True)


def load(
    results: ServiceResults, *, pods: Mapping[str, float], now: float, max_age: float
) -> Load | Unknown:
    """Return the load of the ready pods; Unknown if too few report. `pods` maps a name to the time of readiness."""
    if not pods:
        return _at_the_router(results) or Unknown("no engine is ready")
    for name in queries.PER_POD:
        if name in results.failed:
            return results.failed[name]
        if name not in results.queried:
            return Unknown(f"query {name} has no result")
    rows: list[Sequence[float]] = []
    missing = 0
    settled_rows: list[bool] = []
    for pod in sorted(pods):
        settled = now - pods[pod] >= _SETTLED
        row = results.pods.get(pod)
        if row is None or _is_silent(row, settled=settled, max_age=max_age):
            missing += settled
            continue
        rows.append(row)
        settled_rows.append(settled)
    reporting = len(rows)
    if reporting == 0 or reporting < ENOUGH * (reporting + missing):
        remark = _dropped(results) or ("" if reporting else _SILENT)
        return Unknown(f"{reporting} of {len(pods)} ready engines report{remark}")
    found, complete = _filled(rows, settled_rows)
    if missing:
        found += [_median(found)] * missing
    router = _at_the_router(results) or _NO_ROUTER
    measured = sum(settled_rows)
    return Load(
        pods=tuple(found),
        complete=complete and measured >= COMPLETE * (measured + missing),
        arrivals=router.arrivals,
        surge=router.surge,
        cancelled=router.cancelled,
        output_length=_ratio(results, queries.OUTPUT_LENGTHS, queries.OUTPUT_COUNT),
        prompt_length=_ratio(results, queries.PROMPT_LENGTHS, queries.PROMPT_COUNT),
        kv_tokens=kv_capacity(results),
    )


def _dropped(results: ServiceResults) -> str:
    """Return a remark on the metrics whose values were dropped."""
    names = ", ".join(sorted(results.dropped)[:_SHOWN])
    return f". Values out of range were dropped ({names})" if names else ""


def _at_the_router(results: ServiceResults) -> Load | None:
    """Return the arrivals at the router, with or without a ready engine; None without a router."""
    arrivals = results.totals.get(queries.ARRIVALS)
    if arrivals is None:
        return None
    return Load(
        pods=(),
        complete=False,
        arrivals=arrivals,
        surge=results.totals.get(queries.SURGE),
        cancelled=results.totals.get(queries.CANCELLED, 0.0),
    )


def held(results: ServiceResults) -> float | None:
    """Return the requests that wait in the router for a replica; None without a router."""
    return results.totals.get(queries.HELD)


def _is_silent(row: Sequence[float], *, settled: bool, max_age: float) -> bool:
    running, waiting, age = row[0], row[1], row[-1]
    # NB: every engine exports the counter of finished requests, so a missing rate means missing data.
    unheard = running < 0 or waiting < 0 or (settled and row[_FINISHED] < 0)
    return unheard or not 0 <= age <= max_age


def _filled(rows: Sequence[Sequence[float]], settled: Sequence[bool]) -> tuple[list[PodLoad], bool]:
    """Return the load of each pod, with missing (negative) values filled in, and whether none had to be estimated.

    A missing value is estimated as the median of the other pods. It is 0 if no pod has it, or if the pod is new.
    """
    if min([min(row) for row in rows]) >= 0:
        return [
            PodLoad(*row[:-1], settled=old) for row, old in zip(rows, settled, strict=True)
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
    return [
        PodLoad(*values[:-1], settled=old)
        for values, old in zip(zip(*columns, strict=True), settled, strict=True)
    ], complete


def _median(pods: Sequence[PodLoad]) -> PodLoad:
    names = [field.name for field in dataclasses.fields(PodLoad) if field.name != "settled"]
    values = {name: statistics.median([getattr(pod, name) for pod in pods]) for name in names}
    return PodLoad(**values, settled=False)


def _ratio(results: ServiceResults, top: str, bottom: str) -> float | None:
    total, count = results.totals.get(top), results.totals.get(bottom)
    return total / count if total is not None and count else None


def readings(
    results: ServiceResults, wanted: objectives.Objectives, *, earlier: tuple[Reading, ...] = ()
) -> tuple[Reading, ...] | Unknown:
    """Return one reading per latency objective; Unknown if Prometheus did not answer.

    `earlier` readings stand in for latencies that this round did not query.
    """
    kept = {reading.objective: reading for reading in earlier}
    found = []
    for objective in wanted.latency:
        before = kept.get(objective)
        if before is not None and results.queried.isdisjoint(_names(objective.metric)):
            found.append(before)
            continue
        now = _latency(results, objective, "now", before.now if before else None)
        if isinstance(now, Unknown):
            return now
        recent = _latency(results, objective, "5m", before.recent if before else None)
        found.append(
            Reading(
                objective=objective,
                current=histograms.linear_quantile(now, objective.share),
                requests=now.count,
                attainment={
                    span: _attained(results, objective, span, before) for span in queries.SPANS
                },
                now=now,
                recent=histograms.EMPTY if isinstance(recent, Unknown) else recent,
            )
        )
    return tuple(found)


@functools.cache
def _names(metric: str) -> frozenset[str]:
    """Return the names of all queries of a metric's latencies."""
    return frozenset(queries.latency(metric, span) for span in ("now", *queries.SPANS))


def _attained(
    results: ServiceResults, objective: objectives.Objective, span: str, before: Reading | None
) -> float | None:
    if before is not None and queries.latency(objective.metric, span) not in results.queried:
        return before.attainment[span]
    found = _latency(results, objective, span, None)
    return (
        None
        if isinstance(found, Unknown)
        else histograms.linear_attainment(found, objective.target)
    )


def _latency(
    results: ServiceResults,
    objective: objectives.Objective,
    span: str,
    before: histograms.Histogram | None,
) -> histograms.Histogram | Unknown:
    """Return the latency histogram over a span; the previous one if this round did not query it."""
    name = queries.latency(objective.metric, span)
    if name in results.failed:
        return results.failed[name]
    if name not in results.queried:
        return Unknown("not queried") if before is None else before
    return results.histograms.get(name, histograms.EMPTY)


def draft_tokens(results: ServiceResults, *, revision: str) -> DraftTokens | None:
    """Return the draft tokens of this revision's engines in the last ten minutes; None if unknown or none."""
    counts = []
    for name in (queries.DRAFTED, queries.ACCEPTED):
        result = results.result(name)
        if result is None:
            return None
        values = [sample.value for sample in result if sample.labels.get("revision") == revision]
        if not values:
            return None
        counts.append(sum(values))
    drafted, accepted = counts
    return DraftTokens(drafted, accepted) if drafted else None


def gain(results: ServiceResults, *, revision: str) -> float | None:
    """Return the mean gain of speculation in this revision's engines; None if unknown."""
    result = results.result(queries.GAIN)
    if result is None:
        return None
    values = (one.value for one in result if one.labels.get("revision") == revision)
    return next(values, None)


def by_batch(results: ServiceResults, *, revision: str) -> tuple[BatchSpeculation, ...]:
    """Return the draft tokens of this revision's engines and their gain, by batch size."""
    tokens = _of_batches(results, queries.BATCH_TOKENS, revision)
    gains = _of_batches(results, queries.BATCH_GAIN, revision)
    return tuple(
        BatchSpeculation(batch, tokens[batch], gains.get(batch) or None) for batch in sorted(tokens)
    )


def _of_batches(results: ServiceResults, query: str, revision: str) -> dict[int, float]:
    """Return the values of a query by batch size; labels that no engine writes are left out."""
    return {
        _BATCHES[batch]: sample.value
        for sample in results.result(query) or ()
        if sample.labels.get("revision") == revision
        and (batch := sample.labels.get(contract.BATCH_LABEL, "")) in _BATCHES
    }


def kv_capacity(results: ServiceResults) -> int | None:
    """Return the KV capacity of one engine in tokens: its own metric, or else its cache blocks times their size."""
    result = results.result(queries.KV_TOKENS)
    if result is None:
        return None
    reported = _counts(one.value for one in result if "num_gpu_blocks" not in one.labels)
    if reported:
        return min(reported)
    sizes = []
    for sample in result:
        blocks, size = sample.labels.get("num_gpu_blocks", ""), sample.labels.get("block_size", "")
        if _DIGITS.fullmatch(blocks) and _DIGITS.fullmatch(size):
            sizes.append(int(blocks) * int(size))
    return min(_counts(sizes), default=None)


def max_sequences(results: ServiceResults, *, revision: str) -> int | None:
    """Return the largest batch of one replica of this revision in sequences; None if unknown."""
    values = _counts(
        sample.value
        for sample in results.result(queries.SEQUENCES) or ()
        if sample.labels.get("revision", revision) == revision
    )
    return min(values, default=None)


def _counts(values: Iterable[float]) -> list[int]:
    """Return the plausible capacities; 0 and huge values are missing."""
    return [int(value) for value in values if 1 <= value < _MOST]


def adapters(results: ServiceResults) -> Mapping[str, bool]:
    """Return each LoRA adapter, and whether every engine has loaded it."""
    result = results.result(queries.ADAPTERS)
    if result is None:
        return {}
    return {sample.labels.get(contract.ADAPTER_LABEL, ""): sample.value == 1 for sample in result}
