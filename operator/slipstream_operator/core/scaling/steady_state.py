"""Services at rest, whose next decision can wait a little.

For a decision is monotone in what weighs on a service: as long as nothing of that grew, no more replicas are needed
than at the last look. A lower need ends the rest too, if it shows in the load; else it is seen a little later.
"""

import dataclasses
import zlib
from collections.abc import Set
from typing import Final, NamedTuple, TypeAlias

from slipstream_operator.core.observed import Key, Pod
from slipstream_operator.core.scaling.metrics import queries
from slipstream_operator.core.scaling.metrics.query_results import ServiceResults
from slipstream_operator.core.scaling.metrics.values import Reading, Unknown
from slipstream_operator.core.scaling.state import Decision

Basis: TypeAlias = tuple[object, ...]
"""What a decision is made of beside pods and measurements: values that are replaced when they change."""

SECONDS: Final = 30.0
"""After which a service at rest is decided on in any case."""
_GROWTH: Final = 1.1
_FALL: Final = 0.75
"""Between these times the load before, all is chance."""
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
    """Sums over the pods that report, and what the router sees; what is missing is 0 or negative."""

    running: float
    waiting: float
    kv: float
    """Of the fullest pod."""
    trouble: float
    """Requests rejected and preempted per second."""
    arrivals: float
    surge: float
    held: float


@dataclasses.dataclass(frozen=True, slots=True)
class SteadyState:
    """Snapshot of a steady service at its last decision."""

    until: float
    """When it is decided on anew in any case, on the monotonic clock."""
    basis: Basis
    pods: tuple[Pod, ...]
    reporting: Set[str]
    burden: Totals


def start(
    results: ServiceResults | Unknown,
    readings: tuple[Reading, ...] | Unknown,
    *,
    pods: tuple[Pod, ...],
    decision: Decision,
    basis: Basis,
    until: float,
) -> SteadyState | None:
    """None unless all pods that are wanted and needed are there, ready and measured, and the objectives kept."""
    if isinstance(results, Unknown) or not objectives_met(readings):
        return None
    settled = all(pod.ready and not pod.deleting for pod in pods)
    if not settled or len(pods) != decision.desired or len(results.pods) != len(pods):
        return None
    if decision.numbers is not None and decision.numbers.need < decision.desired:
        return None
    return SteadyState(until, basis, pods, results.pods.keys(), _totals(results))


def deadline(key: Key, *, now: float) -> float:
    """When a service is next decided on in any case: each has a place of its own, so that no tick bears them all."""
    place = zlib.crc32(str(key).encode()) / 2**32 * SECONDS
    return now + SECONDS - (now - place) % SECONDS


def holds(
    rest: SteadyState | None,
    results: ServiceResults,
    *,
    pods: tuple[Pod, ...],
    basis: Basis,
    now: float,
) -> bool:
    """Whether a decision would hardly be another one, as long as the objectives are kept."""
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
    """Whether every objective is known to be kept, or has no traffic."""
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
    """Whether nothing waits, nothing goes wrong, and the load is what it was but for chance."""
    if now.waiting > 0 or now.trouble > 0 or now.held > 0:
        return False
    return (
        _FALL * before.running - 1 <= now.running <= _GROWTH * before.running + 1
        and _FALL * before.arrivals <= now.arrivals <= _GROWTH * before.arrivals
        and now.kv <= _GROWTH * before.kv
        and now.surge <= _GROWTH * before.surge
    )
