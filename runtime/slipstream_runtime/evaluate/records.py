"""Measurements of one load run: a record per request, and their summary. Pure."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

QUANTILES: Final = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Record:
    """Request as its client saw it; times in seconds, latencies since its first attempt."""

    start: float
    """Seconds since the start of the run."""
    duration: float
    """Seconds to the end of the answer or to the error."""
    status: int | None = None
    """HTTP status of the last attempt; None without an answer."""
    error: str | None = None
    """Reason of the failure; None if the answer is complete."""
    retries: int = 0
    ttft: float | None = None
    tpot: float | None = None
    """Mean time between output tokens; None below two tokens."""
    prompt_tokens: int = 0
    output_tokens: int = 0

    @property
    def succeeded(self) -> bool:
        """Whether the complete answer arrived."""
        return self.error is None


@dataclass(frozen=True, slots=True)
class Latency:
    """Latency over the successful requests; None without any."""

    samples: int
    mean: float | None
    p50: float | None
    p95: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    """Summary of a run. Latencies don't contain failed requests, so read `errors` beside them."""

    requests: int
    succeeded: int
    failed: int
    retried: int
    """Requests that were retried."""
    recovered: int
    """Retried requests that succeeded."""
    seconds: float
    requests_per_second: float
    output_tokens_per_second: float
    prompt_tokens: int
    output_tokens: int
    ttft: Latency
    tpot: Latency
    e2e: Latency
    statuses: Mapping[str, int]
    errors: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Report:
    """Summary of a run and its records."""

    summary: Summary
    records: tuple[Record, ...]

    def as_json(self) -> dict[str, object]:
        """Return plain data for `json.dumps`."""
        return asdict(self)


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of the sorted values do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def summarize(records: Sequence[Record]) -> Summary:
    """Return the summary of the records."""
    good = [record for record in records if record.succeeded]
    retried = [record for record in records if record.retries]
    start = min((record.start for record in records), default=0.0)
    end = max((record.start + record.duration for record in records), default=0.0)
    seconds = end - start
    output = sum(record.output_tokens for record in records)
    return Summary(
        requests=len(records),
        succeeded=len(good),
        failed=len(records) - len(good),
        retried=len(retried),
        recovered=sum(record.succeeded for record in retried),
        seconds=seconds,
        requests_per_second=len(good) / seconds if seconds else 0.0,
        output_tokens_per_second=output / seconds if seconds else 0.0,
        prompt_tokens=sum(record.prompt_tokens for record in records),
        output_tokens=output,
        ttft=_latency([record.ttft for record in good if record.ttft is not None]),
        tpot=_latency([record.tpot for record in good if record.tpot is not None]),
        e2e=_latency([record.duration for record in good]),
        statuses=_count([str(record.status or "none") for record in records]),
        errors=_count([record.error for record in records if record.error is not None]),
    )


def _latency(values: Sequence[float]) -> Latency:
    if not values:
        return Latency(samples=0, mean=None, p50=None, p95=None, p99=None)
    ordered = sorted(values)
    p50, p95, p99 = (quantile(ordered, share) for share in QUANTILES)
    return Latency(len(ordered), mean=sum(ordered) / len(ordered), p50=p50, p95=p95, p99=p99)


def _count(values: Sequence[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))
