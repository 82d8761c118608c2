"""Short form of `make bench-rollout`: an equal canary is not rolled back, and a slow one is found early."""

import statistics

import pytest

from benchmarks.rollout import fleet, run

BY_NAME = {scenario.name: scenario for scenario in fleet.SCENARIOS}


@pytest.mark.parametrize("name", ["steady", "correlated load", "all at once"])
def test_an_equal_canary_is_not_rolled_back(name: str) -> None:
    played = run.play(BY_NAME[name], 1, 1.0, (25,))
    assert played.step is None, played


def test_a_canary_a_fifth_slower_is_found_before_a_tenth_of_a_step() -> None:
    played = [run.play(BY_NAME["steady"], seed, run.SLOWER, (25,)) for seed in range(5)]
    assert all("tpot" in one.reasons for one in played)
    assert statistics.median(one.requests for one in played) <= 0.1 * run.REQUESTS
