"""A what-if predicts what the real router with real processes of engines attains after the change."""

import pytest

from benchmarks.why import run
from benchmarks.why.lab import Engines
from slipstream_operator.core.objectives import Objective

ENGINE = {**run.ENGINE, "alpha": 0.04, "beta": 1e-3, "maxSequences": 4}
"""Engine so slow that a busy machine hardly changes its times."""
OBJECTIVES = (Objective("ttft", "p95", 1.0, "1s"), Objective("e2e", "p95", 3.0, "3s"))


async def test_a_second_replica_attains_what_the_replay_predicts() -> None:
    traffic = run.asks(seconds=10.0, rate=3.5)
    checked = await run.check(
        traffic,
        {"replicas=2": Engines(2, ENGINE)},
        present=Engines(1, ENGINE),
        objectives=OBJECTIVES,
    )
    found = checked["replicas=2"]
    assert found.recorded < 0.9, "the present service must be too small"
    assert found.error == pytest.approx(0.0, abs=0.1)
    assert found.replay_error == pytest.approx(0.0, abs=0.1)
    assert found.found.recovered > 0
