"""Totals of each revision of a service, while two of them share its requests.

An arm is a revision under one set of weights: new weights begin new arms, so that a request counts for the weights
under which it was sent. Latencies are natural logarithms of microseconds, which are never negative.
"""

import math
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily

from slipstream_runtime import contract
from slipstream_runtime.recording.recorder import Outcome
from slipstream_runtime.router.balancing.endpoints import Endpoint
from slipstream_runtime.router.config import Revision
from slipstream_runtime.router.messages.request import Request
from slipstream_runtime.router.messages.usage import Usage
from slipstream_runtime.router.recording.flight import Flight

_LEAST_TOKENS: Final = 2
"""Output tokens of a stream that has a time per output token."""
_LEAST_WHOLE: Final = 16
"""Output tokens of an answer without streaming whose time per token counts: its prefill is a small part of it."""
_STRATA: Final = (
    1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024,
    2048, 4096, 8192, 16384,
)  # fmt: skip
"""Upper bounds of strata: requests in flight, blocks of prompt to compute, or output tokens."""
_LABELS: Final = (
    contract.SERVICE_LABEL,
    contract.REVISION_LABEL,
    contract.WEIGHT_LABEL,
    contract.SINCE_LABEL,
    contract.MEASURE_LABEL,
    contract.STATISTIC_LABEL,
    contract.STRATUM_LABEL,
    "le",
)
_FINISHED: Final = re.compile(rb'"finish_reason"\s*:\s*"([a-z_]{1,32})"')
_STOPPED: Final = re.compile(rb'"stop_reason"\s*:\s*"(end_turn|max_tokens|stop_sequence|tool_use)"')
"""The reason in Anthropic's form. In OpenAI's form the field has the text that ended the answer."""
_BLOCK_TOKENS: Final = 16
"""Tokens of a block of prompt. All blocks count if nothing is known of the replica's cache."""


Answer: TypeAlias = Mapping[str, tuple[int, float]]
"""Measure -> stratum and value."""
Statistics: TypeAlias = tuple[str, str]
_NO_ANSWER: Final[Answer] = {}


class Occupancy:
    """Requests in flight of one replica over time, in request seconds."""

    __slots__ = ("_area", "_changed", "_level")

    def __init__(self) -> None:
        self._area = self._changed = 0.0
        self._level = 0

    def advance(self, now: float, level: int) -> float:
        """Return the request seconds until now; from now on `level` requests are in flight."""
        self._area += self._level * (now - self._changed)
        self._changed, self._level = now, level
        return self._area


class Arm:
    """Totals of one revision."""

    def __init__(self, revision: Revision) -> None:
        self.revision = revision.name
        self.weight = revision.weight
        self.requests = 0
        """Requests that ended. A retry on another replica is another request."""
        self.errors = 0
        self.cancelled = 0
        self.reasons: dict[str, int] = {}
        self.logarithms: dict[tuple[str, int], list[float]] = {}
        """Measure and stratum -> count, sum and sum of squares."""
        self.pairs: dict[tuple[str, Statistics, int], list[float]] = {}
        """Successive answers of one replica in a stratum: pairs, and half of their squared differences."""
        self._last: dict[str, Answer] = {}
        """Last complete answer of each replica."""
        self._occupancies: dict[str, Occupancy] = {}
        self.buckets: dict[str, list[int]] = {
            measure: [0] * (len(bounds) + 1) for measure, bounds in _BUCKETS.items()
        }

    def enter(self, flight: Flight, replica: str, *, now: float, in_flight: int) -> None:
        """Note that a replica gets the request, which then is one of those `in_flight`."""
        flight.before = self._last.get(replica, _NO_ANSWER)
        flight.entered = now
        occupancy = self._occupancies.setdefault(replica, Occupancy())
        flight.load = occupancy.advance(now, in_flight)

    def leave(self, flight: Flight, replica: str, *, now: float, in_flight: int) -> None:
        """Note that the replica has answered, or lost, the request; `in_flight` are left."""
        area = self._occupancies[replica].advance(now, in_flight) - flight.load
        flight.load = area / max(now - flight.entered, 1e-6)

    def failed(self) -> None:
        """Count an attempt at a replica that did not answer."""
        self.requests += 1
        self.errors += 1

    def replied(self, flight: Flight, usage: Usage) -> None:
        """Note the form of an answer, and the reason for which it ended."""
        flight.streamed = usage.events > 0
        found = _FINISHED.findall(usage.end) or _STOPPED.findall(usage.end)
        flight.reason = found[-1].decode() if found else ""

    def ended(
        self, flight: Flight, *, now: float, status: int, outcome: Outcome, output: int
    ) -> None:
        """Count a request that a replica of the revision had last."""
        self.requests += 1
        self._last.setdefault(flight.replica, _NO_ANSWER)
        if outcome is Outcome.CANCELLED:
            self.cancelled += 1
        elif outcome is Outcome.BROKEN or status >= 500:
            self.errors += 1
        elif status < 300 and flight.sent is not None and flight.replied is not None:
            self._answered(flight, flight.sent, flight.replied, now=now, output=output)

    def _answered(
        self, flight: Flight, sent: float, replied: float, *, now: float, output: int
    ) -> None:
        ended, found = now - flight.client, dict[str, tuple[int, float]]()
        self._add(contract.COMPARED_E2E, ended - sent, output, found)
        if flight.streamed:
            self._add(contract.COMPARED_TTFT, replied - sent, flight.work, found)
            if output >= _LEAST_TOKENS:
                each = (ended - replied) / (output - 1)
                self._add(contract.COMPARED_TPOT, each, flight.load, found)
        elif output >= _LEAST_WHOLE:
            self._add(contract.COMPARED_TPOT, (ended - sent) / output, flight.load, found)
        if output:
            self._total(contract.COMPARED_OUTPUT, math.log(output), 0)
        if flight.reason:
            self.reasons[flight.reason] = self.reasons.get(flight.reason, 0) + 1
        self._pair(found, self._last[flight.replica], contract.NEAR)
        self._pair(found, flight.before, contract.APART)
        self._last[flight.replica] = found

    def _add(
        self, measure: str, seconds: float, size: float, found: dict[str, tuple[int, float]]
    ) -> None:
        value = math.log(max(1.0, seconds * 1e6))
        stratum = min(bisect_left(_STRATA, size), _LAST)
        found[measure] = stratum, value
        self._total(measure, value, stratum)
        self.buckets[measure][bisect_left(_BUCKETS[measure], seconds)] += 1

    def _pair(self, found: Answer, before: Answer, statistics: Statistics) -> None:
        for measure, (stratum, value) in found.items():
            known = before.get(measure)
            if known is not None and known[0] == stratum:
                pairs = self.pairs.setdefault((measure, statistics, stratum), [0.0, 0.0])
                pairs[0] += 1.0
                pairs[1] += (value - known[1]) ** 2 / 2

    def _total(self, measure: str, value: float, stratum: int) -> None:
        found = self.logarithms.get((measure, stratum))
        if found is None:
            found = self.logarithms[measure, stratum] = [0.0, 0.0, 0.0]
        found[0] += 1.0
        found[1] += value
        found[2] += value * value

    def samples(self) -> Iterator[tuple[str, str, str, str, float]]:
        """Yield measure, statistic, stratum, bound and value of each series."""
        for measure, count in (
            (contract.COMPARED_REQUESTS, self.requests),
            (contract.COMPARED_ERRORS, self.errors),
            (contract.COMPARED_CANCELLED, self.cancelled),
            (contract.COMPARED_REPLICAS, len(self._last)),
            *((contract.COMPARED_FINISHED + reason, n) for reason, n in self.reasons.items()),
        ):
            yield measure, contract.COUNT, "", "", count
        for (measure, stratum), values in self.logarithms.items():
            for statistic, value in zip(contract.STATISTICS, values, strict=True):
                yield measure, statistic, str(_STRATA[stratum]), "", value
        for (measure, statistics, stratum), values in self.pairs.items():
            for statistic, value in zip(statistics, values, strict=True):
                yield measure, statistic, str(_STRATA[stratum]), "", value
        for measure, counts in self.buckets.items():
            total = sum(counts)
            below = 0
            for bound, count in zip(_BUCKETS[measure], counts, strict=False):
                below += count
                if below:
                    yield measure, contract.WITHIN, "", str(bound), below
                if below == total:
                    break


_LAST: Final = len(_STRATA) - 1
_BUCKETS: Final[Mapping[str, tuple[float, ...]]] = {
    contract.COMPARED_TTFT: contract.LATENCY_BUCKETS[contract.TTFT],
    contract.COMPARED_TPOT: contract.LATENCY_BUCKETS[contract.TPOT],
    contract.COMPARED_E2E: contract.LATENCY_BUCKETS[contract.E2E],
}


class Arms:
    """Arms of one service; none while one revision gets all requests, which then cost nothing."""

    def __init__(self, service: str, *, now: Callable[[], float]) -> None:
        self._service = service
        self._now = now
        self._weights: Mapping[str, int] = {}
        self._since = ""
        self._arms: dict[str, Arm] = {}

    def __bool__(self) -> bool:
        return bool(self._arms)

    def configure(self, revisions: Sequence[Revision]) -> None:
        """Begin new arms if the weights are new."""
        weighted = [revision for revision in revisions if revision.weight]
        weights = {revision.name: revision.weight for revision in weighted}
        if weights == self._weights:
            return
        self._weights = weights
        self._since = f"{self._now():.3f}"
        self._arms = {r.name: Arm(r) for r in weighted} if len(weighted) > 1 else {}

    def enter(
        self, endpoint: Endpoint, request: Request, flight: Flight, *, now: float
    ) -> Arm | None:
        """Return the arm of the replica that gets the request, and note what decides how long it takes.

        None if the request is not compared.
        """
        arm = self.of(endpoint.revision)
        if arm is None or not request.computes:
            return None
        flight.work = request.pending or request.prompt_tokens / _BLOCK_TOKENS
        arm.enter(flight, endpoint.name, now=now, in_flight=endpoint.in_flight)
        return arm

    def of(self, revision: str) -> Arm | None:
        """Return the arm of a revision; None if it is not compared."""
        return self._arms.get(revision)

    def describe(self) -> list[Metric]:
        """Return the family without values."""
        return [self._family()]

    def collect(self) -> list[Metric]:
        """Return the family with its values."""
        family = self._family()
        for arm in self._arms.values():
            known = self._service, arm.revision, str(arm.weight), self._since
            for *labels, value in arm.samples():
                family.add_metric((*known, *map(str, labels)), float(value))
        return [family]

    def _family(self) -> CounterMetricFamily:
        text = (
            "Totals of two revisions that share the requests of a service, since their weights changed: logarithms "
            "of microseconds and of tokens, and counts."
        )
        return CounterMetricFamily(contract.ROUTER_COMPARED, text, labels=_LABELS)
