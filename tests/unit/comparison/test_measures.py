"""Measures of a comparison: those that need proof, those that only stop a worse canary, and those that don't apply."""

import math
import random

from slipstream_operator.core.comparison import measures
from slipstream_operator.core.comparison.judgement import Verdict
from slipstream_operator.core.comparison.totals import Totals

Arm = dict[str, Totals]


def logarithms(typical: float, count: int = 3_000, *, seed: int = 0, spread: float = 0.2) -> Totals:
    chance = random.Random(seed)
    values = [math.log(typical) + chance.gauss(0.0, spread) for _ in range(count)]
    return Totals(count, sum(values), sum(value * value for value in values))


def arm(count: int = 3_000, *, seed: int = 0, **others: Totals) -> Arm:
    return {
        "requests": Totals(count, count, count),
        "errors": Totals(count, 0, 0),
        "cancelled": Totals(count, 0, 0),
        "ttft": logarithms(1e5, count, seed=seed),
        "tpot": logarithms(1e4, count, seed=seed + 1),
        "e2e": logarithms(1e6, count, seed=seed + 2),
        "output": logarithms(100, count, seed=seed + 3),
        "finish_stop": Totals(count, count, count),
        **others,
    }


def verdict(stable: Arm, canary: Arm) -> tuple[Verdict, list[str]]:
    found = measures.assess(stable, canary, tolerance=0.1)
    assert found is not None
    return found.verdict, [finding.measure.name for finding in found.reasons]


def without(found: Arm, *names: str) -> Arm:
    return {name: totals for name, totals in found.items() if name not in names}


def test_equal_revisions_are_not_worse() -> None:
    assert verdict(arm(), arm(seed=10))[0] is Verdict.NOT_WORSE


def test_each_loss_is_found_by_its_measure() -> None:
    for name, totals in {
        "ttft": logarithms(1.4e5),
        "tpot": logarithms(1.2e4),
        "e2e": logarithms(1.3e6),
        "output": logarithms(50),
        "errors": Totals(3_000, 200, 200),
        "cancelled": Totals(3_000, 600, 600),
        "finish_stop": Totals(3_000, 1_500, 1_500),
        "finish_length": Totals(3_000, 1_500, 1_500),
        "tpot-p95": Totals(3_000, 900, 900),
    }.items():
        tail = Totals(3_000, 150, 150)
        stable = arm(**{"finish_length": Totals(3_000, 0, 0), "tpot-p95": tail})
        found = arm(seed=10, **{"finish_length": Totals(3_000, 0, 0), "tpot-p95": tail})
        assert verdict(stable, found | {name: totals}) == (Verdict.WORSE, [name])


def test_a_few_requests_need_proof_only_where_it_takes_few() -> None:
    found, names = verdict(arm(), arm(60, seed=10))
    assert found is Verdict.UNDECIDED
    assert set(names) <= {"ttft", "tpot", "errors"}


def test_a_service_without_streaming_is_judged_by_the_whole_time() -> None:
    stable, canary = (without(arm(seed=seed), "ttft", "tpot") for seed in (0, 10))
    assert verdict(stable, canary)[0] is Verdict.NOT_WORSE
    few = without(arm(40, seed=10), "ttft", "tpot")
    assert "e2e" in verdict(stable, few)[1]


def test_a_latency_that_only_one_revision_lacks_is_not_known() -> None:
    assert verdict(arm(), without(arm(seed=10), "tpot")) == (Verdict.UNDECIDED, ["tpot"])


def test_without_answers_nothing_is_left_out() -> None:
    few = without(arm(5), "ttft", "tpot", "e2e")
    assert verdict(few, few)[0] is Verdict.UNDECIDED


def test_without_totals_there_is_no_judgement() -> None:
    assert measures.assess({}, arm(), tolerance=0.1) is None
    assert measures.assess(arm(), {}, tolerance=0.1) is None


def test_parts_of_the_comparison_can_be_left_out() -> None:
    slow = arm(seed=10, tpot=logarithms(2e4))
    failing = arm(seed=10, errors=Totals(3_000, 900, 900))
    for found, latency in ((slow, False), (failing, True)):
        judged = measures.assess(arm(), found, tolerance=0.1, latency=latency, errors=not latency)
        assert judged is not None
        assert judged.verdict is Verdict.NOT_WORSE
