"""Status: every condition with its reasons, and when it is worth a write."""

import copy
import dataclasses
import math
from typing import Any

import pytest

from slipstream_operator.core import revisions, status
from slipstream_operator.core.gateway import Attachment
from slipstream_operator.core.observed import Observed, ObservedPod, Ref, RouterState
from slipstream_operator.core.scaling.metrics.values import DraftTokens, Reading, Unknown
from slipstream_operator.core.scaling.models.coldstart import ColdStart
from slipstream_operator.core.scaling.models.steptime import Coefficients, StepTimeModel
from slipstream_operator.core.scaling.state import Decision, Numbers
from slipstream_operator.core.status.outcome import Measured, Outcome
from slipstream_operator.errors import PermanentError
from tests.support import given

SPEC: dict[str, Any] = {
    "model": given.MODEL,
    "slo": {"ttft": {"p95": "500ms"}, "throughput": {"outputTokensPerSecond": 900}},
    "scaling": {"maxReplicas": 4},
}
A = given.identity(SPEC)
RESOLVED = given.resolved(SPEC)
REJECTED = PermanentError("InvalidSpec", "spec.x: is wrong")


NUMBERS = Numbers(
    work=0.62,
    requests=9.5,
    utilization=0.62,
    need=1,
    ready=1,
    starting=0,
    horizon=120.0,
)
MODEL = StepTimeModel((), Coefficients(0.007, 20e-6, 60e-9, 32e-6), uncertainty=0.12)


def _measured(*readings: Reading, unknown: str | None = None) -> Measured:
    if unknown:
        return Measured(load=Unknown(unknown), readings=Unknown(unknown))
    return Measured(
        load=given.load(8.0, waiting=1.0),
        readings=readings,
        draft_tokens=DraftTokens(200.0, 150.0),
        gain=1.163,
        kv_capacity=16000,
    )


def _outcome(**fields: Any) -> Outcome:
    base = Outcome(
        resolved=RESOLVED,
        rollout=revisions.Rollout(A, A, (revisions.Revision(A, 1),), by_router=True),
        decision=Decision(1, "Keeping 1 replica.", known=True, numbers=NUMBERS),
        state=given.state(1, since=0.0, model=MODEL, cold=ColdStart(3.0, math.log(90.0))),
        measured=_measured(given.reading(_5m=0.99, _1h=0.98, _1d=0.975)),
    )
    return dataclasses.replace(base, **fields)


def _bounded(minimum: int, maximum: int, **options: bool) -> dict[str, Any]:
    bounds = given.bounds(minimum, maximum, **options)
    return {"resolved": dataclasses.replace(RESOLVED, bounds=bounds)}


def _summary(
    *,
    pods: tuple[ObservedPod, ...] | None = None,
    old: Any = None,
    refused: str | None = None,
    **fields: Any,
) -> Any:
    """The status; `refused` is why the API server lets no pod of the Deployment be made."""
    observed = _observed(pods=given.pods(A, 1) if pods is None else pods, old=old)
    if refused is not None:
        manifest = given.find(given.rendered(observed), "Deployment")
        child = dataclasses.replace(given.child(manifest), trouble=refused)
        observed = dataclasses.replace(observed, children=(child,))
    return status.summarise(observed, _outcome(**fields), now=given.NOW)


def _observed(*, pods: tuple[ObservedPod, ...], old: Any = None) -> Observed:
    return given.observed(parent=given.parent(SPEC, generation=7, status=old), pods=pods)


def _condition(found: Any, kind: str) -> tuple[str, str, str] | None:
    for condition in found["conditions"]:
        if condition["type"] == kind:
            return condition["status"], condition["reason"], condition["message"]
    return None


@pytest.mark.parametrize(
    ("loaded", "told"),
    [
        ({}, "not known yet: sql, chat, en"),
        ({"sql": True, "chat": True, "en": True}, "sql, chat, en"),
        ({"sql": True, "chat": False}, "sql; not loaded: chat; not known yet: en"),
    ],
)
def test_status_tells_which_adapters_can_be_asked_for(loaded: dict[str, bool], told: str) -> None:
    listed = dict.fromkeys(("sql", "chat", "en"), "hf://org/a")
    found = _summary(
        resolved=dataclasses.replace(RESOLVED, adapters=listed),
        measured=dataclasses.replace(_measured(), adapters=loaded),
    )
    assert found["engine"]["adapters"] == told


def test_a_healthy_service() -> None:
    found = _summary()
    conditions = found.pop("conditions")
    assert found == {
        "observedGeneration": 7,
        "url": "http://chat.team.svc/v1",
        "replicas": 1,
        "readyReplicas": 1,
        "selector": "slipstream.dev/service=chat",
        "slo": [
            {
                "objective": "ttft-p95",
                "metric": "ttft",
                "percentile": "p95",
                "target": "500ms",
                "current": "250ms",
                "attainment5m": "99.0%",
                "attainment1h": "98.0%",
                "budgetRemaining": "50.0%",
            },
            {
                "objective": "throughput",
                "metric": "throughput",
                "target": "900/s",
                "current": "100/s",
            },
        ],
        "scaling": {
            "desired": 1,
            "reason": "Keeping 1 replica.",
            "since": "1970-01-01T00:00:00Z",
            "inputs": (
                "inFlight=8 waiting=1 kv=10% tokensPerSecond=100 requestsPerSecond=9.5 work=0.62 "
                "utilization=62% need=1 ready=1 starting=0 horizon=120s"
            ),
            "model": (
                "step=7.00ms +20.0us/request +60.0ns/kvToken +32.0us/promptToken (1 sd 12%) kappa=1.00"
            ),
            "coldStart": "112s",
        },
        "engine": {
            "runtime": "vllm",
            "accelerator": "gpu x 1",
            "quantization": "auto",
            "acceptance": "75.0%",
            "speculationGain": "at most 1.16",
            "kvCapacityTokens": 16000,
        },
    }
    assert [(entry["type"], entry["status"], entry["reason"]) for entry in conditions] == [
        ("Ready", "True", "EnginesReady"),
        ("Accepted", "True", "Accepted"),
        ("ModelReady", "True", "Loaded"),
        ("Available", "True", "EnginesReady"),
        ("SLOMet", "True", "Met"),
        ("ScalingActive", "True", "FollowingLoad"),
    ]
    assert {entry["observedGeneration"] for entry in conditions} == {7}


UNSCHEDULABLE = ("Unschedulable", "0/3 nodes have a GPU")
EVICTED = given.pod(A, name="evicted", ready=False, phase="Failed", trouble=("Evicted", "too much"))
AVAILABLE: dict[str, tuple[tuple[ObservedPod, ...], dict[str, Any], tuple[str, str, str]]] = {
    "ready": (given.pods(A, 1), {}, ("True", "EnginesReady", "The engine is ready.")),
    "some ready": (
        (*given.pods(A, 1), given.pod(A, name="late", ready=False)),
        {},
        ("True", "EnginesReady", "1 of 2 engines is ready."),
    ),
    "a name that others hold": (
        given.pods(A, 1),
        {"conflicts": (Ref("Service", "team", "chat"), Ref("ConfigMap", "team", "chat-state"))},
        (
            "False",
            "NameConflict",
            (
                "Service chat and ConfigMap chat-state already exist and belong to other owners. Delete or rename "
                "them, or rename this object."
            ),
        ),
    ),
    "refused": (
        given.pods(A, 1),
        {"failures": ("Deployment x was refused: 403", "Service y was refused: 422")},
        (
            "False",
            "Rejected",
            "Deployment x was refused: 403; Service y was refused: 422",
        ),
    ),
    "stopped": (
        (),
        _bounded(0, 0, follows_load=False),
        ("False", "Stopped", "The service is stopped because spec.replicas is 0."),
    ),
    "nothing there": ((), {}, ("False", "Pending", "No engine exists yet.")),
    "starting": (
        given.pods(A, 2, ready=False),
        {},
        ("False", "Starting", "0 of 2 engines are ready."),
    ),
    "in trouble": (
        (given.pod(A, ready=False, trouble=UNSCHEDULABLE),),
        {},
        ("False", *UNSCHEDULABLE),
    ),
    "the newest pod in trouble speaks": (
        (
            given.pod(A, name="new", ready=False, created=given.NOW, trouble=UNSCHEDULABLE),
            given.pod(A, name="old", ready=False, trouble=("EngineFailed", "old news")),
        ),
        {},
        ("False", *UNSCHEDULABLE),
    ),
    "a ready pod's old trouble is over": (
        (
            given.pod(A, name="a", trouble=("EngineFailed", "once")),
            given.pod(A, name="b", ready=False),
        ),
        {},
        ("True", "EnginesReady", "1 of 2 engines is ready."),
    ),
    "only pods that are being deleted": (
        (given.pod(A, deleting=True),),
        {},
        ("False", "Pending", "No engine exists yet."),
    ),
    "evicted, before another exists": (
        (EVICTED,),
        {},
        ("False", "Evicted", "Pod evicted: too much"),
    ),
    "evicted, and another starts": (
        (EVICTED, given.pod(A, ready=False, created=given.CREATED)),
        {},
        ("False", "Evicted", "Pod evicted: too much"),
    ),
    "evicted a day before a service at zero woke": (
        (EVICTED, given.pod(A, ready=False, created=given.NOW)),
        {},
        ("False", "Starting", "The engine is not ready yet."),
    ),
    "evicted, and another may not be made": (
        (EVICTED,),
        {"refused": "exceeded quota: team"},
        ("False", "CreateFailed", "exceeded quota: team"),
    ),
    "evicted, and another finds no place": (
        (EVICTED, given.pod(A, ready=False, created=given.NOW, trouble=UNSCHEDULABLE)),
        {},
        ("False", *UNSCHEDULABLE),
    ),
    "evicted long ago": (
        (
            EVICTED,
            given.pod(A, name="b", created=given.NOW),
            given.pod("other", name="c", ready=False),
        ),
        {"rollout": revisions.Rollout("other", "other", (revisions.Revision("other", 1),))},
        ("False", "Starting", "0 of 2 engines are ready."),
    ),
    "preempted": (
        (given.pod(A, ready=False, deleting=True, trouble=("Preempted", "by others")),),
        {},
        ("False", "Preempted", f"Pod chat-{A}-0: by others"),
    ),
    "ready pods of a revision that has no traffic": (
        given.pods("other", 1),
        {},
        ("False", "Starting", "The engine is not ready yet."),
    ),
}


@pytest.mark.parametrize(("pods", "fields", "expected"), AVAILABLE.values(), ids=AVAILABLE)
def test_available(
    pods: tuple[ObservedPod, ...], fields: dict[str, Any], expected: tuple[str, str, str]
) -> None:
    assert _condition(_summary(pods=pods, **fields), "Available") == expected


def test_pods_that_have_ended_are_no_replicas() -> None:
    found = _summary(pods=(*given.pods(A, 1), EVICTED, dataclasses.replace(EVICTED, name="b")))
    assert (found["replicas"], found["readyReplicas"]) == (1, 1)
    assert _condition(found, "Available") == ("True", "EnginesReady", "The engine is ready.")
    assert _condition(found, "Reconciling") is None


def test_pods_that_are_being_deleted_are_no_replicas() -> None:
    leaving = given.pod(A, name="leaving", deleting=True)  # still Ready, until it has drained
    found = _summary(pods=(*given.pods(A, 1), leaving))
    assert (found["replicas"], found["readyReplicas"]) == (1, 1)
    assert _condition(found, "Reconciling") is None


def test_a_service_that_the_user_stopped_is_as_the_user_wants_it() -> None:
    found = _summary(
        pods=(given.pod(A, deleting=True), EVICTED),
        rollout=revisions.Rollout(A, A, (revisions.Revision(A, 0),), by_router=True),
        **_bounded(0, 0, follows_load=False),
    )
    assert _condition(found, "Ready") == (
        "True",
        "Stopped",
        "The service is stopped because spec.replicas is 0. No engine runs.",
    )
    assert _condition(found, "Available") == (
        "False",
        "Stopped",
        "The service is stopped because spec.replicas is 0.",
    )
    assert _condition(found, "Reconciling") is None
    assert _condition(found, "Stalled") is None


def test_a_stop_is_in_progress_until_its_engines_end() -> None:
    stopping = {
        "rollout": revisions.Rollout(A, A, (revisions.Revision(A, 0),), by_router=True),
        **_bounded(0, 0, follows_load=False),
    }
    found = _condition(_summary(pods=given.pods(A, 2, ready=False), **stopping), "Reconciling")
    assert found == ("True", "Starting", "Stopping 2 of 2 engines.")


def test_a_stopped_service_whose_objects_are_refused_is_not_ready() -> None:
    refused = _bounded(0, 0, follows_load=False) | {"failures": ("Service x was refused: 403",)}
    ready = _condition(_summary(pods=(), **refused), "Ready")
    assert ready == ("False", "Rejected", "Service x was refused: 403")


def test_while_a_lost_engine_is_replaced_status_says_why() -> None:
    lost = dataclasses.replace(EVICTED, gone_at=given.NOW)
    pods = (*given.pods(A, 1), lost, given.pod(A, name="new", ready=False, created=given.NOW))
    rollout = revisions.Rollout(A, A, (revisions.Revision(A, 2),), by_router=True)
    found = _condition(_summary(pods=pods, rollout=rollout), "Reconciling")
    assert found == ("True", "Starting", "1 of 2 engines is ready. Evicted: Pod evicted: too much")


def test_model_ready_and_ready_say_why_not() -> None:
    found = _summary(pods=(given.pod(A, ready=False, trouble=UNSCHEDULABLE),))
    assert _condition(found, "ModelReady") == ("False", "NotLoaded", UNSCHEDULABLE[1])
    assert _condition(found, "Ready") == ("False", *UNSCHEDULABLE)


def test_engines_behind_a_name_that_others_hold_are_not_ready() -> None:
    found = _summary(conflicts=(Ref("Service", "team", "chat"),))
    ready = _condition(found, "Ready")
    assert ready is not None
    assert ready[:2] == ("False", "NameConflict")


SLO: dict[str, tuple[dict[str, Any], tuple[str, str, str]]] = {
    "met": (
        {"measured": _measured(given.reading(current=0.25))},
        ("True", "Met", "ttft-p95 is 250ms (target: 500ms)."),
    ),
    "missed": (
        {"measured": _measured(given.reading(current=0.75))},
        ("False", "Missed", "ttft-p95 is 750ms (target: 500ms)."),
    ),
    "infeasible": (
        {
            "measured": _measured(given.reading(current=0.75)),
            "decision": Decision(1, "why", known=True, infeasible="no count helps"),
        },
        ("False", "Infeasible", "no count helps"),
    ),
    "no traffic": (
        {"measured": _measured(given.reading(current=None, requests=0.0))},
        ("Unknown", "NoTraffic", "There are too few requests to evaluate the objectives."),
    ),
    "little traffic": (
        {"measured": _measured(given.reading(current=9.0, requests=4.0))},
        ("Unknown", "NoTraffic", "There are too few requests to evaluate the objectives."),
    ),
    "no metrics": (
        {"measured": _measured(unknown="Prometheus did not answer")},
        ("Unknown", "NoMetrics", "Prometheus did not answer"),
    ),
    "not yet measured": (
        {"measured": None},
        ("Unknown", "NoMetrics", "There are no measurements yet."),
    ),
    "no objectives": (
        {"resolved": given.resolved()},
        ("Unknown", "NoObjectives", "spec.slo sets no latency objective."),
    ),
}


@pytest.mark.parametrize(("fields", "expected"), SLO.values(), ids=SLO)
def test_slo_met(fields: dict[str, Any], expected: tuple[str, str, str]) -> None:
    found = _summary(**fields)
    assert _condition(found, "SLOMet") == expected
    ready = _condition(found, "Ready")
    assert ready is not None
    assert ready[0] == "True"  # a missed objective must not fail a sync wave


SCALING: dict[str, tuple[dict[str, Any], tuple[str, str]]] = {
    "following": ({}, ("True", "FollowingLoad")),
    "recommending": (_bounded(1, 4, recommend=True), ("True", "Recommending")),
    "paused": (_bounded(1, 4, paused=True), ("False", "Paused")),
    "fixed": (_bounded(2, 2, follows_load=False), ("False", "FixedReplicas")),
    "holding": ({"decision": Decision(1, "holding 1", known=False)}, ("False", "Holding")),
    "undecided": ({"decision": None}, ("Unknown", "Pending")),
}


@pytest.mark.parametrize(("fields", "expected"), SCALING.values(), ids=SCALING)
def test_scaling_active(fields: dict[str, Any], expected: tuple[str, str]) -> None:
    found = _condition(_summary(**fields), "ScalingActive")
    assert found is not None
    assert found[:2] == expected


ROLLING = revisions.Rollout(A, "b", (revisions.Revision(A, 1), revisions.Revision("b", 1)))
PROGRESS: dict[str, tuple[tuple[ObservedPod, ...], dict[str, Any], tuple[str, str, str] | None]] = {
    "as desired": (given.pods(A, 1), {}, None),
    "starting": (
        given.pods(A, 1, ready=False),
        {},
        ("True", "Starting", "The engine is not ready yet."),
    ),
    "waiting for a node": (
        (*given.pods(A, 1), given.pod(A, name="b", ready=False, trouble=UNSCHEDULABLE)),
        {"rollout": revisions.Rollout(A, A, (revisions.Revision(A, 2),), by_router=True)},
        ("True", "Starting", f"1 of 2 engines is ready. Unschedulable: {UNSCHEDULABLE[1]}"),
    ),
    "too many": (given.pods(A, 2), {}, ("True", "Starting", "Stopping 1 of 2 engines.")),
    "rolling out": (
        given.pods(A, 1) + given.pods("b", 1, ready=False),
        {"rollout": ROLLING},
        ("True", "RollingOut", f"Revision b is starting while revision {A} serves requests."),
    ),
    "a rollout whose trouble is over": (
        (*given.pods(A, 1), given.pod("b", trouble=UNSCHEDULABLE)),
        {"rollout": ROLLING},
        ("True", "RollingOut", f"Revision b is starting while revision {A} serves requests."),
    ),
    "a rollout in trouble": (
        (*given.pods(A, 1), given.pod("b", ready=False, trouble=UNSCHEDULABLE)),
        {"rollout": ROLLING},
        (
            "True",
            "RollingOut",
            f"Revision b is starting while revision {A} serves requests. Unschedulable: 0/3 nodes have a GPU",
        ),
    ),
}


@pytest.mark.parametrize(("pods", "fields", "expected"), PROGRESS.values(), ids=PROGRESS)
def test_reconciling_is_present_only_while_true(
    pods: tuple[ObservedPod, ...], fields: dict[str, Any], expected: tuple[str, str, str] | None
) -> None:
    found = _summary(pods=pods, **fields)
    assert _condition(found, "Reconciling") == expected
    assert _condition(found, "Stalled") is None


def test_revisions_are_shown_while_there_is_more_than_one() -> None:
    pods = given.pods(A, 1) + given.pods("b", 1, ready=False)
    assert _summary(pods=pods, rollout=ROLLING)["revisions"] == [
        {"name": f"chat-{A}", "hash": A, "weight": 100, "replicas": 1},
        {"name": "chat-b", "hash": "b", "weight": 0, "replicas": 0},
    ]
    assert "revisions" not in _summary()


def _rejected(old: Any = None) -> Any:
    outcome = Outcome(rejected=REJECTED)
    observed = _observed(pods=given.pods(A, 1), old=old)
    return status.summarise(observed, outcome, now=given.NOW)


def test_what_is_not_accepted_is_stalled_and_not_ready() -> None:
    found = _rejected()
    expected = ("InvalidSpec", "spec.x: is wrong")
    assert _condition(found, "Accepted") == ("False", *expected)
    assert _condition(found, "Ready") == ("False", *expected)
    assert _condition(found, "Stalled") == ("True", *expected)
    assert _condition(found, "Reconciling") is None


def test_what_is_not_accepted_goes_on_serving() -> None:
    available = _condition(_rejected(), "Available")
    assert available is not None
    assert available[0] == "True"


def test_what_is_not_accepted_keeps_its_numbers() -> None:
    old = _summary()
    found = _rejected(old)
    assert {key: found[key] for key in ("slo", "scaling", "engine")} == {
        key: old[key] for key in ("slo", "scaling", "engine")
    }


def test_a_condition_that_did_not_flip_keeps_its_time() -> None:
    old = _summary(pods=given.pods(A, 1, ready=False))
    for condition in old["conditions"]:
        condition["lastTransitionTime"] = given.CREATED
    found = {
        entry["type"]: entry["lastTransitionTime"] for entry in _summary(old=old)["conditions"]
    }
    assert found == {
        "Ready": given.NOW,
        "Accepted": given.CREATED,
        "ModelReady": given.NOW,
        "Available": given.NOW,
        "SLOMet": given.CREATED,
        "ScalingActive": given.CREATED,
    }


STATUS = _summary()


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
        pytest.param(_changed(("engine", "speculationGain"), "at most 1.20"), id="a gain"),
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
        return _summary(gateway=standing)

    one, other = at("the pool is not claimed"), at("the route is not claimed")
    assert status.worth_writing(one, other, since_last_write=0.0)
    assert not status.worth_writing(one, at("the pool is not claimed"), since_last_write=0.0)
    assert _condition(one, "Available") == ("False", "GatewayNotReady", "the pool is not claimed")


AT_ZERO: dict[str, Any] = {
    **_bounded(0, 4),
    "decision": Decision(0, "nobody asked for 15m", known=True),
}


def test_at_zero_a_service_is_available_and_ready() -> None:
    found = _summary(pods=(), **AT_ZERO)
    assert _condition(found, "Available") == (
        "True",
        "ScaledToZero",
        "The service is scaled to zero. The router holds the next request until a replica is ready.",
    )
    for kind, reason in (("ModelReady", "ScaledToZero"), ("Ready", "EnginesReady")):
        condition = _condition(found, kind)
        assert condition is not None
        assert condition[:2] == ("True", reason)


@pytest.mark.parametrize("fields", [{}, {"pods": (), **AT_ZERO}], ids=["engines", "at zero"])
@pytest.mark.parametrize(
    ("trouble", "told"), [(None, "None of its pods is ready."), ("quota", "quota")]
)
def test_behind_a_router_that_is_down_nothing_is_available(
    fields: dict[str, Any], trouble: str | None, told: str
) -> None:
    pods = fields.get("pods", given.pods(A, 1))
    observed = dataclasses.replace(
        _observed(pods=pods), router=RouterState(available=False, trouble=trouble)
    )
    rest = {key: value for key, value in fields.items() if key != "pods"}
    found = status.summarise(observed, _outcome(**rest), now=given.NOW)
    assert _condition(found, "Available") == (
        "False",
        "RouterNotReady",
        f"Deployment slipstream-router: {told}",
    )


def test_a_service_that_waits_for_the_router_says_so() -> None:
    rollout = revisions.Rollout(A, A, (revisions.Revision(A, 1),), by_router=False, routed=A)
    condition = _condition(_summary(rollout=rollout), "Reconciling")
    assert condition is not None
    assert condition[:2] == ("True", "RouterNotReady")


def test_the_url_is_the_gateways_once_it_has_accepted_all() -> None:
    assert _summary(gateway=Attachment(url="http://192.0.2.7/team/chat/v1"))["url"] == (
        "http://192.0.2.7/team/chat/v1"
    )


def test_one_router_of_two_is_enough_to_be_available() -> None:
    observed = dataclasses.replace(
        _observed(pods=given.pods(A, 1)), router=RouterState(available=False, answers=True)
    )
    found = status.summarise(observed, _outcome(), now=given.NOW)
    condition = _condition(found, "Available")
    assert condition is not None
    assert condition[:2] == ("True", "EnginesReady")


@pytest.mark.parametrize(
    ("spec", "gain", "expected"),
    [
        ({"speculation": {"method": "ngram"}}, None, "unknown"),
        ({"speculation": {"method": "ngram"}}, 1.163, "at most 1.16"),
        ({}, None, None),
    ],
)
def test_a_gain_that_was_not_sampled_is_unknown(
    spec: dict[str, Any], gain: float | None, expected: str | None
) -> None:
    measured = dataclasses.replace(_measured(given.reading()), gain=gain)
    resolved = given.resolved({**SPEC, **spec})
    found = _summary(resolved=resolved, measured=measured)
    assert found["engine"].get("speculationGain") == expected
