"""Ticks of one service on given query results, and checks of what they leave."""

import dataclasses
import json
from collections.abc import Iterable
from typing import Any, Final

from slipstream_operator.api import units
from slipstream_operator.core import revisions, status, tick
from slipstream_operator.core.observed import Key
from slipstream_operator.core.scaling import persistence
from slipstream_operator.core.scaling.metrics import queries
from slipstream_operator.core.scaling.metrics.query_results import QueryResults
from slipstream_operator.core.status.outcome import Outcome
from slipstream_operator.core.tick import Moment, Scaling, Service
from tests.support import given, scalers

SPEC: Final = {**scalers.SPEC, "slo": {"ttft": {"p95": "500ms"}, "tpot": {"p95": "50ms"}}}
NOW: Final = units.moment("2026-01-02T00:00:00Z")
READY: Final = "2026-01-01T00:01:00Z"
OTHER: Final = Key(given.NAMESPACE, "other")
NAMES: Final = (
    *queries.PER_POD, *queries.TOTALS, "ttft:now", "ttft:5m", "ttft:1h", "tpot:now", "tpot:5m",
    queries.DRAFTED, queries.ACCEPTED, queries.GAIN, queries.KV_TOKENS, queries.SEQUENCES, queries.ADAPTERS,
    *sorted(queries.PROFILE),
)  # fmt: skip
"""Queries of a round."""
PODS: Final = ("a", "b")


def series(value: float, key: Key, **labels: str) -> tuple[bytes, float]:
    """Return one series as the adapter passes it on."""
    found = {"namespace": key.namespace, "service": key.name, **labels}
    return json.dumps(found, separators=(",", ":")).encode(), value


def _service(pods: Iterable[Any]) -> Service:
    resolved, observed = given.resolved(SPEC), given.observed(SPEC)
    rollout = revisions.roll_out(observed, resolved, replicas=2, now=given.MOMENT)
    return Service(given.KEY, resolved, rollout, tuple(pods))


REVISION: Final = _service(()).rollout.active


def service(*ready_since: str | None) -> Service:
    """Return the service with pods that are ready since these times."""
    return _service(
        dataclasses.replace(given.pod(REVISION, name=name), ready_since=since)
        for name, since in zip(PODS, ready_since, strict=True)
    )


def decide(page: dict[str, Any], scaling: Scaling, of: Service, *, ticks: int = 3) -> Scaling:
    """Decide several times on a round of queries, and check each status."""
    for number in range(ticks):
        results = QueryResults()
        for name, rows in page.items():
            results.take(name, rows)
        scaling = once(results, scaling, of, number=number)
    return scaling


def once(results: QueryResults, scaling: Scaling, of: Service, *, number: int = 0) -> Scaling:
    """Decide once, and check the status."""
    moment = Moment(NOW + 31 * number, 50.0 + 31 * number)
    scaling, _ = tick.tick(results.of(given.KEY), scaling, of, moment=moment)
    _report(scaling, of)
    return scaling


def _report(scaling: Scaling, of: Service) -> None:
    """Write a status and the state, and check that both can be read."""
    outcome = Outcome(
        resolved=of.resolved,
        rollout=of.rollout,
        decision=scaling.decision,
        state=scaling.state,
        measured=scaling.measured,
    )
    written = status.summarise(given.observed(SPEC), outcome, now=given.CREATED)
    json.dumps(written, allow_nan=False)
    assert scaling.state is not None and scaling.decision is not None
    assert 0 <= scaling.decision.desired <= of.resolved.bounds.maximum
    assert persistence.load(persistence.dump(scaling.state)) is not None
