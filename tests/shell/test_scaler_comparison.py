"""The scaling loop collects the totals of revisions that share requests, with one query, while there are any."""

from slipstream_operator.core.comparison.collection import Comparison
from slipstream_operator.core.scaling.metrics import queries
from slipstream_operator.core.scaling.metrics.values import Sample
from slipstream_operator.shell.service_states import ServiceState
from slipstream_runtime import contract
from tests.support import fakes, given
from tests.support.scalers import Loop

STABLE, CANARY = "aaaaaaaa", "bbbbbbbb"
COMPARISON = Comparison(STABLE, CANARY, {STABLE: 75, CANARY: 25}, since=given.MOMENT)


def _samples(requests: float, *, name: str = given.NAME) -> list[Sample]:
    return [
        Sample(
            {
                "namespace": given.NAMESPACE, "service": name, "pod": "router-1",
                "revision": f"{name}-{revision}", "weight": str(weight), "since": str(given.MOMENT + 1),
                "measure": measure, "statistic": contract.COUNT,
            },
            value,
        )
        for revision, weight in COMPARISON.weights.items()
        for measure, value in (("requests", requests), ("errors", 0.0), ("cancelled", 0.0))
    ]  # fmt: skip


def _queries(loop: Loop) -> int:
    return sum(contract.ROUTER_COMPARED in query for _, query in loop.metrics.asked)


def _comparing(loop: Loop, name: str = given.NAME) -> ServiceState:
    service = loop.serve(name)
    service.comparison = COMPARISON
    return service


async def test_nothing_is_queried_while_no_revisions_are_compared() -> None:
    loop = Loop(fakes.Metrics())
    service = loop.serve()
    await loop.scaler.tick()
    assert _queries(loop) == 0
    assert service.compared == {}


async def test_one_query_serves_all_services() -> None:
    loop = Loop(fakes.Metrics())
    for number in range(20):
        _comparing(loop, f"service-{number}")
    loop.serve("other")
    await loop.scaler.tick()
    assert _queries(loop) == 1


async def test_new_totals_are_reconciled_at_once_and_unchanged_ones_are_not() -> None:
    loop = Loop(fakes.Metrics({queries.COMPARED: _samples(40.0)}))
    service = _comparing(loop)
    await loop.scaler.tick()
    assert {each: found["requests"].count for each, found in service.compared.items()} == {
        STABLE: 40.0,
        CANARY: 40.0,
    }
    assert service.compared[CANARY]["errors"].total == 0.0
    await loop.scaler.tick()
    before = service.collected
    await loop.scaler.tick()
    assert service.collected is before


async def test_totals_that_are_missing_hold_and_come_back() -> None:
    loop = Loop(fakes.Metrics({queries.COMPARED: _samples(40.0)}))
    service = _comparing(loop)
    await loop.scaler.tick()
    answers, loop.metrics.answers = loop.metrics.answers, {}
    await loop.scaler.tick()
    assert service.compared == {}
    loop.metrics.answers = answers
    await loop.scaler.tick()
    assert service.compared[CANARY]["requests"].count == 40.0


async def test_a_prometheus_that_does_not_answer_holds() -> None:
    loop = Loop(fakes.SilentMetrics())
    service = _comparing(loop)
    await loop.scaler.tick()
    assert service.compared == {}


async def test_the_totals_of_another_step_are_not_those_of_this_one() -> None:
    loop = Loop(fakes.Metrics({queries.COMPARED: _samples(40.0)}))
    service = _comparing(loop)
    await loop.scaler.tick()
    service.comparison = Comparison(
        STABLE, CANARY, {STABLE: 50, CANARY: 50}, since=given.MOMENT + 600
    )
    assert service.compared == {}
    await loop.scaler.tick()
    assert service.compared == {}
    service.comparison = None
    await loop.scaler.tick()
    assert service.collected is None
