"""Changes of the status that are written at once, once a minute, or never."""

import copy
from typing import Any

import pytest

from slipstream_operator.core import status
from slipstream_operator.core.gateway import Attachment
from tests.support import given
from tests.support.statuses import A, summarize, verdict


def test_a_condition_that_did_not_flip_keeps_its_time() -> None:
    old = summarize(pods=given.pods(A, 1, ready=False))
    for condition in old["conditions"]:
        condition["lastTransitionTime"] = given.CREATED
    found = {
        entry["type"]: entry["lastTransitionTime"] for entry in summarize(old=old)["conditions"]
    }
    assert found == {
        "Ready": given.NOW,
        "Accepted": given.CREATED,
        "ModelReady": given.NOW,
        "Available": given.NOW,
        "SLOMet": given.CREATED,
        "ScalingActive": given.CREATED,
    }


STATUS = summarize()


def _changed(path: tuple[str | int, ...], value: Any) -> Any:
    changed = copy.deepcopy(STATUS)
    node = changed
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    return changed


@pytest.mark.parametrize(
    "new",
    [
        pytest.param(_changed(("conditions", 4, "status"), "False"), id="a condition"),
        pytest.param(_changed(("conditions", 4, "reason"), "Other"), id="a reason"),
        pytest.param(_changed(("scaling", "desired"), 2), id="a decision"),
        pytest.param(_changed(("readyReplicas",), 0), id="a replica"),
        pytest.param(_changed(("observedGeneration",), 8), id="a generation"),
        pytest.param(_changed(("slo", 0, "target"), "1s"), id="a target"),
        pytest.param(_changed(("slo", 0, "current"), None), id="a value that is gone"),
        pytest.param(_changed(("engine", "kvCapacityTokens"), 1), id="the engine"),
        pytest.param(_changed(("engine", "speculationLoss"), "it loses"), id="a loss"),
        pytest.param({}, id="everything"),
    ],
)
def test_what_matters_is_written_at_once(new: Any) -> None:
    assert status.worth_writing(STATUS, new, since_last_write=0.0)


@pytest.mark.parametrize(
    "new",
    [
        pytest.param(_changed(("slo", 0, "current"), "251ms"), id="a latency"),
        pytest.param(_changed(("slo", 0, "attainment5m"), "98.0%"), id="an attainment"),
        pytest.param(_changed(("scaling", "inputs"), "x"), id="inputs"),
        pytest.param(_changed(("conditions", 4, "message"), "x"), id="a message"),
        pytest.param(_changed(("engine", "acceptance"), "70.0%"), id="acceptance"),
        pytest.param(_changed(("engine", "speculationGain"), "1.20"), id="a gain"),
        pytest.param(_changed(("engine", "speculationByBatch"), []), id="draft tokens"),
    ],
)
def test_numbers_alone_are_written_once_a_minute(new: Any) -> None:
    assert not status.worth_writing(STATUS, new, since_last_write=59.0)
    assert status.worth_writing(STATUS, new, since_last_write=60.0)


def test_what_did_not_change_is_never_written() -> None:
    assert not status.worth_writing(STATUS, copy.deepcopy(STATUS), since_last_write=1e9)


def test_each_step_towards_a_gateway_is_written_at_once() -> None:
    def at(message: str) -> Any:
        standing = Attachment(("GatewayNotReady", message))
        return summarize(gateway=standing)

    one, other = at("the pool is not claimed"), at("the route is not claimed")
    assert status.worth_writing(one, other, since_last_write=0.0)
    assert not status.worth_writing(one, at("the pool is not claimed"), since_last_write=0.0)
    assert verdict(one, "Available") == ("False", "GatewayNotReady", "the pool is not claimed")
