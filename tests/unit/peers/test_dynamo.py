"""The Dynamo-like planner's arithmetic."""

import math
from collections.abc import Mapping

import pytest

from slipstream_simulator.peers import dynamo
from tests.support import views
from tests.support.views import ENGINE

STEP = ENGINE.beta + ENGINE.gamma * (1000 + 200 / 2)
"""Seconds that a request adds to a step, by its context of 1,100 tokens."""


def _interval(requests: float, *, itl: float, ttft: float = 1.0) -> Mapping[str, views.Result]:
    values = {
        "requests": requests,
        "isl": 1000.0,
        "osl": 200.0,
        "ttft": ttft,
        "itl": itl,
        "duration": 4.0,
    }
    return {name: views.number(value) for name, value in values.items()}


def _expected(requests: float, *, target: float, prefill: float) -> int:
    batch = min((target - ENGINE.alpha) / STEP, ENGINE.max_sequences, ENGINE.kv_tokens / 1100)
    throughput = batch / (ENGINE.alpha + STEP * batch)
    return math.ceil(requests * prefill / 180 + requests * 200 / 180 / throughput)


PREFILL = ENGINE.alpha + ENGINE.delta * 1000


def _as_predicted(requests: float, replicas: int) -> float:
    return ENGINE.alpha + STEP * requests / replicas * 4.0 / 180


def test_prompts_and_outputs_are_divided_by_profiled_throughput() -> None:
    look = views.view(4, _interval(9000, itl=_as_predicted(9000, 4)))
    wanted = _expected(9000, target=0.04, prefill=PREFILL)
    assert dynamo.planner(ENGINE, 1.0).decide(look) == wanted


def test_a_token_latency_above_prediction_tightens_the_target() -> None:
    look = views.view(4, _interval(9000, itl=4 * _as_predicted(9000, 4)))
    wanted = _expected(9000, target=0.01, prefill=PREFILL)
    assert dynamo.planner(ENGINE, 1.0).decide(look) == wanted


def test_a_first_token_sooner_than_predicted_lowers_the_need_for_prefill() -> None:
    look = views.view(4, _interval(9000, itl=_as_predicted(9000, 4), ttft=PREFILL / 2))
    wanted = _expected(9000, target=0.04, prefill=PREFILL / 2)
    assert dynamo.planner(ENGINE, 1.0).decide(look) == wanted


@pytest.mark.parametrize("result", [views.AWAY, [], views.number(math.nan)])
def test_without_traffic_or_metrics_the_count_stays(result: views.Result) -> None:
    policy = dynamo.planner(ENGINE, 1.0)
    assert policy.decide(views.view(7, dict.fromkeys(policy.queries(), result))) == 7


def test_an_objective_below_the_empty_engines_step_is_served_one_by_one() -> None:
    look = views.view(4, _interval(90, itl=_as_predicted(90, 4)))
    alone = 1 / (ENGINE.alpha + STEP)
    wanted = math.ceil(90 * PREFILL / 180 + 90 * 200 / 180 / alone)
    assert dynamo.planner(ENGINE, 0.1).decide(look) == wanted
