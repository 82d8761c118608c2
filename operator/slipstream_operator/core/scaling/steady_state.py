"""Steady services, whose next decision can wait for up to 30 seconds.

Decisions are monotone in the load: while no part of the load grows, no more replicas are needed. A clearly lower load
ends the steady state, too; a slightly lower one is noticed at the next decision.
"""

import dataclasses
import zlib
from collections.abc import Set
from typing import Final, NamedTuple, TypeAlias

from slipstream_operator.core.observed import Key, ObservedPod
from slipstream_operator.core.scaling.metrics import queries
from slipstream_operator.core.scaling.metrics.query_results import ServiceResults
from slipstream_operator.core.scaling.metrics.values import Reading, Unknown
from slipstream_operator.core.scaling.state import Decision

Basis: TypeAlias = tuple[object, ...]
"""Values that a decision depends on beside pods and measurements; they are replaced when they change."""

SECONDS: Final = 30.0
"""Seconds within which a steady service is decided on in any case."""
_GROWTH: Final = 1.1
_FALL: Final = 0.75
"""Factors of the earlier load between which the load counts as unchanged."""
_RUNNING, _WAITING, _KV, _REJECTED, _PREEMPTED = (
    queries.PER_POD.index(name)
    for name in (
        queries.RUNNING,
        queries.WAITING,
        queries.KV_USAGE,
        queries.REJECTED,
        queries.PREEMPTED,
    )
)


class Totals(NamedTuple):
    """Sums over the reporting pods, and counts of the router; missing values are 0 or negative."""

    running: float
    waiting: float
    kv: float
    """Share of the KV cache in use, of the fullest pod."""
    trouble: float
    """Requests rejected and preempted per second."""
    arrivals: float
    surge: float
    held: float


@dataclasses.dataclass(frozen=True, slots=True)
class SteadyState:
    """Snapshot of a steady service at its last decision."""

    until: float
    """Time of the next decision in any case, on the monotonic clock."""
    basis: Basis
    pods: tuple[ObservedPod, ...]
    reporting: Set[str]
    burden: Totals


def start(
    results: ServiceResults | Unknown,
    readings: tuple[Reading, ...] | Unknown,
    *,
    pods: tuple[ObservedPod, ...],
    decision: Decision,
    basis: Basis,
    until: float,
) -> SteadyState | None:
    """Return a steady state if all desired pods are ready, needed and measured, and objectives are met; else None."""
    if isinstance(results, Unknown) or not objectives_met(readings):
        return None
    settled = all(pod.ready for pod in pods)
    if not settled or len(pods) != decision.desired or len(results.pods) != len(pods):
        return None
    if decision.numbers is not None and decision.numbers.need < decision.desired:
        return None
    return SteadyState(until, basis, pods, results.pods.keys(), _totals(results))


def deadline(key: Key, *, now: float) -> float:
    """Return the time of the next decision in any case, staggered by a hash of the service."""
    place = zlib.crc32(str(key).encode()) / 2**32 * SECONDS
    return now + SECONDS - (now - place) % SECONDS


def holds(
    rest: SteadyState | None,
    results: ServiceResults,
    *,
    pods: tuple[ObservedPod, ...],
    basis: Basis,
    now: float,
) -> bool:
    """Whether the steady state continues, as long as the objectives are met."""
    return (
        rest is not None
        and now < rest.until
        and not results.failed
        and all(new is old for new, old in zip(basis, rest.basis, strict=True))
        and rest.pods == pods
        and rest.reporting == results.pods.keys()
        and _similar(_totals(results), rest.burden)
    )


def objectives_met(readings: tuple[Reading, ...] | Unknown) -> bool:
    """Whether every objective is met or has no traffic."""
    return isinstance(readings, tuple) and not any(one.over for one in readings)


def _totals(results: ServiceResults) -> Totals:
    """Read the load from one round of query results."""
    rows, totals = results.pods.values(), results.totals
    return Totals(
        running=sum([row[_RUNNING] for row in rows]),
        waiting=sum([row[_WAITING] for row in rows]),
        kv=max([row[_KV] for row in rows], default=0.0),
        trouble=sum([max(0.0, row[_REJECTED]) + max(0.0, row[_PREEMPTED]) for row in rows]),
        arrivals=totals.get(queries.ARRIVALS, 0.0),
        surge=totals.get(queries.SURGE, 0.0),
        held=totals.get(queries.HELD, 0.0),
    )


def _similar(now: Totals, before: Totals) -> bool:
    """Whether no request waits or fails, and the load is about the same."""
    if now.waiting > 0 or now.trouble > 0 or now.held > 0:
        return False
    return (
        _FALL * before.running - 1 <= now.running <= _GROWTH * before.running + 1
        and _FALL * before.arrivals <= now.arrivals <= _GROWTH * before.arrivals
        and now.kv <= _GROWTH * before.kv
        and now.surge <= _GROWTH * before.surge
    )
