"""Growth of latencies over pairs of runs."""

import random

import pytest

from slipstream_runtime.evaluate import pairs, records
from slipstream_runtime.evaluate.quality import statistics
from slipstream_runtime.evaluate.quality.statistics import Verdict


def run(tpot: float | None, *, failed: bool = False) -> records.Summary:
    record = records.Record(
        start=0.0,
        duration=1.0,
        status=500 if failed else 200,
        error="http 500" if failed else None,
        retries=0,
        ttft=0.1,
        tpot=tpot,
        prompt_tokens=8,
        output_tokens=8,
    )
    return records.summarize([record])


def measured(growth: float, *, count: int = pairs.LEAST, seed: int = 0) -> pairs.Measured:
    """Pairs whose machine is up to twice as slow in one as in another, and that differ by 5 % at random."""
    dice = random.Random(seed)
    found = []
    for _ in range(count):
        slow = dice.uniform(0.01, 0.02)
        found.append((run(slow), run(slow * (1 + growth) * dice.uniform(0.95, 1.05))))
    return pairs.of(found)


def of(found: pairs.Measured, name: str) -> pairs.Growth:
    return next(growth for growth in found.growths if growth.measure == name)


@pytest.mark.parametrize(("growth", "verdict"), [(0.2, Verdict.FAILED), (0.0, Verdict.PASSED)])
def test_a_fifth_more_time_per_token_is_found_on_a_machine_that_changes_its_pace(
    growth: float, verdict: Verdict
) -> None:
    found = [of(measured(growth, seed=seed), "tpot").comparison for seed in range(20)]
    assert {statistics.judge(one, most=0.1) for one in found} == {verdict}
    assert all(one.loss.low <= growth <= one.loss.high for one in found[:5])


def test_too_few_pairs_decide_nothing() -> None:
    found = of(measured(0.0, count=5), "tpot").comparison
    assert statistics.judge(found, most=0.1) is Verdict.INCONCLUSIVE


def test_a_measure_that_one_run_lacks_is_left_out() -> None:
    found = pairs.of([(run(0.01), run(0.01)), (run(0.01), run(None))])
    assert [growth.measure for growth in found.growths] == ["ttft", "e2e"]


def test_failed_requests_are_counted_by_server() -> None:
    found = pairs.of([(run(0.01), run(0.01, failed=True))])
    assert (found.requests, found.failed_baseline, found.failed_candidate) == (2, 0, 1)
