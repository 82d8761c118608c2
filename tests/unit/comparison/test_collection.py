"""Totals of routers: restarts, lost routers and missing scrapes hold a rollout, and nothing is ever counted as zero."""

import dataclasses
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from slipstream_operator.core.comparison import collection
from slipstream_operator.core.comparison.collection import Collected, Comparison
from slipstream_operator.core.comparison.totals import Totals
from slipstream_operator.core.scaling.metrics import queries
from slipstream_operator.core.scaling.metrics.query_results import QueryResults
from slipstream_operator.core.scaling.metrics.values import Sample, Unknown
from slipstream_runtime import contract
from slipstream_runtime.recording.recorder import Outcome
from slipstream_runtime.router.comparing.arms import Arms
from slipstream_runtime.router.config import Revision
from slipstream_runtime.router.recording.flight import Flight
from tests.support import given

STABLE, CANARY = "aaaaaaaa", "bbbbbbbb"
BEGAN = 1_000.0
COMPARISON = Comparison(STABLE, CANARY, {STABLE: 75, CANARY: 25}, since=BEGAN)


class Router:
    """One router process, and the series that it exports."""

    def __init__(
        self, pod: str = "router-1", *, since: float = BEGAN + 1, canary: int = 25
    ) -> None:
        self.pod = pod
        self.arms = Arms(given.NAME, now=lambda: since)
        self.arms.configure(
            [
                Revision(name=f"{given.NAME}-{STABLE}", weight=100 - canary),
                Revision(name=f"{given.NAME}-{CANARY}", weight=canary),
            ]
        )

    def answer(
        self,
        revision: str,
        count: int = 1,
        *,
        each: float = 0.01,
        first: float = 0.1,
        output: int = 101,
        status: int = 200,
        outcome: Outcome = Outcome.ANSWERED,
        load: float = 4.0,
        replica: str = "pod-1",
    ) -> None:
        """End requests of a revision; `each` are the seconds of an output token."""
        arm = self.arms.of(f"{given.NAME}-{revision}")
        assert arm is not None
        for _ in range(count):
            flight = Flight("")
            flight.sent, flight.replied, flight.replica = 0.0, first, replica
            arm.enter(flight, replica, now=0.0, in_flight=1)
            flight.streamed, flight.load, flight.work, flight.reason = True, load, 8.0, "stop"
            ended = first + each * (output - 1)
            arm.ended(flight, now=ended, status=status, outcome=outcome, output=output)

    def samples(self, **more: str) -> list[Sample]:
        labels = {"namespace": given.NAMESPACE, "pod": self.pod, **more}
        return [
            Sample({**sample.labels, **labels}, sample.value)
            for family in self.arms.collect()
            for sample in family.samples
        ]


def collected(*rounds: Sequence[Sample], before: Collected | None = None) -> Collected:
    found = before or Collected(COMPARISON)
    for samples in rounds:
        found = collection.collect(found, samples, service=given.NAME)
    return found


def requests(found: Collected) -> Mapping[str, float]:
    return {revision: totals["requests"].count for revision, totals in found.totals().items()}


def test_the_totals_are_the_sums_of_all_routers() -> None:
    first, second = Router("router-1"), Router("router-2")
    first.answer(STABLE, 30)
    first.answer(CANARY, 10, each=0.02)
    second.answer(STABLE, 5)
    found = collected([*first.samples(), *second.samples()])
    assert requests(found) == {STABLE: 35, CANARY: 10}
    totals = found.totals()
    assert totals[STABLE]["tpot"].mean == pytest.approx(math.log(10_000))
    assert totals[CANARY]["tpot"].mean == pytest.approx(math.log(20_000))
    assert totals[CANARY]["ttft"].mean == pytest.approx(math.log(100_000))
    assert totals[CANARY]["finish_stop"] == Totals(10, 10, 10)


def test_failures_cancellations_and_client_faults_are_told_apart() -> None:
    router = Router()
    router.answer(STABLE, 9)
    router.answer(CANARY, 5)
    router.answer(CANARY, 2, status=500)
    router.answer(CANARY, 1, outcome=Outcome.BROKEN)
    router.answer(CANARY, 3, status=499, outcome=Outcome.CANCELLED)
    router.answer(CANARY, 4, status=400)
    canary = collected(router.samples()).totals()[CANARY]
    assert canary["errors"] == Totals(15, 3, 3)
    assert canary["cancelled"] == Totals(15, 3, 3)
    assert canary["finish_stop"].count == 5


def test_a_router_that_restarts_keeps_what_it_counted_before() -> None:
    before, after = Router(), Router(since=BEGAN + 50)
    before.answer(STABLE, 40)
    before.answer(CANARY, 20)
    # More than before, so that only the time of its start tells that it was reset.
    after.answer(STABLE, 60)
    after.answer(CANARY, 30)
    found = collected(before.samples(), after.samples())
    assert requests(found) == {STABLE: 100, CANARY: 50}


def test_a_router_that_vanishes_keeps_its_totals_and_the_others_go_on() -> None:
    one, other = Router("router-1"), Router("router-2")
    for router in (one, other):
        router.answer(STABLE, 10)
        router.answer(CANARY, 10)
    found = collected([*one.samples(), *other.samples()], other.samples())
    assert found.current
    assert requests(found) == {STABLE: 20, CANARY: 20}


def _without(samples: Sequence[Sample], revision: str) -> list[Sample]:
    return [one for one in samples if not one.labels["revision"].endswith(revision)]


def _relabeled(samples: Sequence[Sample], **labels: str) -> list[Sample]:
    return [Sample({**one.labels, **labels}, one.value) for one in samples]


def _present() -> list[Sample]:
    router = Router()
    router.answer(STABLE, 40)
    router.answer(CANARY, 40)
    return router.samples()


MISSING = {
    "no samples": [],
    "no canary": _without(_present(), CANARY),
    "no stable revision": _without(_present(), STABLE),
    "other weights": Router(canary=5).samples(),
    "an earlier comparison": Router(since=BEGAN - 600).samples(),
    "no time": _relabeled(_present(), since=""),
    "another service's revisions": _relabeled(_present(), revision="other-aaaaaaaa"),
    "NaN": [Sample(one.labels, math.nan) for one in _present()],
}


@pytest.mark.parametrize("samples", MISSING.values(), ids=MISSING)
def test_without_the_totals_of_both_nothing_is_compared_and_nothing_is_lost(
    samples: list[Sample],
) -> None:
    assert collected(samples).totals() == {}
    known = collected(_present())
    held = collected(samples, before=known)
    assert held.totals() == {}
    assert requests(collected(_present(), before=held)) == requests(known)


def test_an_older_copy_of_a_router_s_series_changes_nothing() -> None:
    router = Router()
    router.answer(STABLE, 10)
    router.answer(CANARY, 10)
    older = router.samples()
    router.answer(CANARY, 10)
    found = collected(router.samples(), older)
    assert requests(found) == {STABLE: 10, CANARY: 20}


def test_totals_begin_with_each_comparison() -> None:
    found = _after(collected(_present()), COMPARISON, _present())
    assert found is not None
    assert found.current
    grown = dataclasses.replace(COMPARISON, weights={STABLE: 50, CANARY: 50}, since=BEGAN + 100)
    following = _after(found, grown, _present())
    assert following is not None
    assert following.totals() == {}
    assert _after(found, None, _present()) is None


def test_a_failed_query_holds() -> None:
    known = collected(_present())
    for answer in (None, Unknown("refused")):
        found = _after(known, COMPARISON, answer)
        assert found is not None
        assert found.totals() == {}
        assert found.routers == known.routers


def _after(before: Collected, comparison: Comparison | None, answer: Any) -> Collected | None:
    results = QueryResults()
    if answer is not None:
        results.take(queries.COMPARED, given.raw(answer))
    of = results.of(given.KEY)
    return collection.after_round(before, comparison, of, service=given.NAME)


def test_values_beyond_the_stable_95th_percentile_are_counted_from_its_choice_on() -> None:
    router = Router()
    router.answer(STABLE, 97, first=0.2)
    router.answer(STABLE, 3, first=4.0)
    router.answer(CANARY, 10, first=4.0)
    chosen = collected(router.samples())
    assert chosen.tails["ttft"].bound == 0.25
    router.answer(STABLE, 50, first=0.2)
    router.answer(CANARY, 20, first=0.2)
    router.answer(CANARY, 5, first=4.0)
    totals = collected(router.samples(), before=chosen).totals()
    assert totals[STABLE]["ttft-p95"].count > 0
    assert totals[STABLE]["ttft-p95"].total == 0
    assert totals[CANARY]["ttft-p95"].mean == pytest.approx(5 / 25)


def test_answers_of_one_replica_that_agree_count_as_one() -> None:
    router = Router()
    chance = random.Random(1)
    for pod in range(8):
        typical = chance.lognormvariate(0.0, 0.3) * 0.01
        for revision in (STABLE, CANARY):
            router.answer(revision, 50, each=typical, replica=f"{revision}-{pod}")
    totals = collected(router.samples()).totals()
    assert totals[CANARY]["requests"].count == 400
    assert totals[CANARY]["tpot"].count == pytest.approx(8, rel=0.5)


def test_every_label_that_a_router_writes_is_kept_by_the_query() -> None:
    written = {label for one in _present() for label in one.labels} - {"namespace", "pod"}
    assert written == {contract.SERVICE_LABEL, *queries.COMPARED_LABELS}


def test_requests_at_another_load_are_compared_with_those_of_the_same_load() -> None:
    router = Router()
    router.answer(STABLE, 40, each=0.02, load=16)
    router.answer(STABLE, 5, each=0.01, load=2)
    router.answer(CANARY, 40, each=0.01, load=2)
    totals = collected(router.samples()).totals()
    assert totals[CANARY]["tpot"].mean == pytest.approx(totals[STABLE]["tpot"].mean)
