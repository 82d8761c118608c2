"""Policies by name, and the oracle that is held against them."""

import dataclasses

import pytest

from slipstream_simulator import (
    campaign,
    registry,
    scenarios,
    score,
    simulation,
)
from slipstream_simulator.policies import foresight

SCENARIO = scenarios.parse(
    {
        "apiVersion": "simulation.slipstream.dev/v1alpha1",
        "kind": "Scenario",
        "name": "step",
        "duration": "20m",
        "warmup": "2m",
        "slo": {"ttft": {"p95": "1s"}, "tpot": {"p95": "40ms"}},
        "scaling": {"minReplicas": 1, "maxReplicas": 8, "initialReplicas": 1},
        "coldStart": {"distribution": "lognormal", "median": "60s", "sigma": 0.3},
        "traffic": [
            {
                "arrivals": {"process": "poisson", "rate": [["0s", 4], ["10m", 4], ["10m1s", 80]]},
                "prompt": {"distribution": "fixed", "value": 500},
                "output": {"distribution": "fixed", "value": 150},
            }
        ],
    },
    what="test",
)


@pytest.mark.parametrize("name", [name for name in registry.POLICIES if name != registry.ORACLE])
def test_every_policy_can_be_made_for_a_scenario(name: str) -> None:
    assert registry.find(name)(SCENARIO, 0).every > 0


@pytest.mark.parametrize(
    "name", ["nobody", "hpa-kv@high", "nobody@1", "slipstream@much", "slipstream@-1", "oracle@1"]
)
def test_a_name_that_is_none_is_a_key_error(name: str) -> None:
    with pytest.raises(KeyError):
        registry.find(name)


def test_a_run_has_the_name_by_which_its_policy_was_asked_for() -> None:
    name = registry.tuned("hpa-kv", 0.2)
    assert campaign.play(SCENARIO, name, seed=0).policy == name == "hpa-kv@0.2"


def test_slipstream_can_have_standing_replicas() -> None:
    run = campaign.play(SCENARIO, registry.standing(3), seed=0)
    assert run.policy == "slipstream@3"
    assert min(requested for _, requested in run.requested[1:]) == 3


def test_no_more_replicas_wait_than_the_service_may_have() -> None:
    run = campaign.play(SCENARIO, registry.standing(99), seed=0)
    assert max(requested for _, requested in run.requested) == SCENARIO.scaling.max_replicas


def test_the_shipped_value_of_a_knob_is_the_peer_itself() -> None:
    assert registry.tuned("hpa-kv", registry.PEERS["hpa-kv"].shipped) == "hpa-kv"


def test_the_run_of_the_oracle_is_what_its_schedule_gives() -> None:
    seen = foresight.played(SCENARIO, 1)
    again = simulation.run(SCENARIO, foresight.foreseen(SCENARIO, 1), seed=1)
    assert dataclasses.replace(score.score(seen), policy="") == dataclasses.replace(
        score.score(again), policy=""
    )


def test_the_oracle_keeps_the_goal_through_a_step_that_slipstream_cannot_foresee() -> None:
    names = ("slipstream", "oracle")
    own, oracle = campaign.Job(SCENARIO, names, seed=3).scores()
    assert oracle.attainment >= 0.99 > own.attainment
    assert own.over_replica_hours is not None
