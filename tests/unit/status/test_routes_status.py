"""What the status of an InferenceRoute says: how it stands, and where its answers came from."""

import dataclasses
from typing import Any

import pytest

from slipstream_operator import names
from slipstream_operator.core import inference_routes
from slipstream_operator.core.key_problems import KeyProblem
from slipstream_operator.core.observed import Key, Parent, RouterState
from slipstream_operator.core.router_config import Entry
from slipstream_operator.core.scaling.metrics.values import Sample, Samples, Unknown
from tests.support import given

CASCADE: dict[str, Any] = {
    "model": "assistant",
    "cascade": {
        "stages": [
            {"service": "small", "accept": {"minConfidence": "70%"}},
            {"service": "large"},
        ]
    },
}
SPLIT: dict[str, Any] = {
    "model": "assistant",
    "backends": [{"service": "small"}, {"service": "large"}],
}
UP = RouterState(available=True, answers=True)
NAMES = ("small", "large")


def _service(name: str, *, available: bool = True) -> Parent:
    condition = {
        "type": "Available",
        "status": "True" if available else "False",
        "reason": "x",
        "message": "",
        "lastTransitionTime": given.NOW,
    }
    return given.parent(key=Key("team", name), status={"conditions": [condition]})


def _entry(name: str) -> Entry:
    found = given.entry(given.observed(parent=given.parent(key=Key("team", name))))
    assert found is not None
    return found


def _summary(
    spec: dict[str, Any] = CASCADE,
    *,
    listed: RouterState = UP,
    told: bool = True,
    down: str = "",
    samples: Samples | None = None,
) -> Any:
    route = given.parent(spec, key=Key("team", "assistant", names.INFERENCE_ROUTE), generation=7)
    services = [_service(name, available=name != down) for name in NAMES]
    entries = {name: _entry(name) for name in NAMES}
    judged = inference_routes.validate(given.router(services, routes=[route]), entries)
    observed = given.router(services, routes=[route], listed_routes=judged.entries if told else {})
    return inference_routes.summarise(
        route, observed, judged, listed=listed, samples=samples or {}, now=given.NOW
    )


def _condition(status: Any, kind: str) -> tuple[str, str, str]:
    (found,) = (entry for entry in status["conditions"] if entry["type"] == kind)
    return found["status"], found["reason"], found["message"]


def test_a_route_that_answers_is_ready() -> None:
    found = _summary()
    assert _condition(found, "Ready") == ("True", "BackendsReady", "The route is ready.")
    assert found["url"] == "http://slipstream-router.team.svc/v1"
    assert found["observedGeneration"] == 7


@pytest.mark.parametrize(
    ("fields", "reason", "message"),
    [
        (
            {"listed": RouterState()},
            "RouterNotReady",
            "slipstream-router: None of its pods is ready.",
        ),
        ({"listed": RouterState(trouble="quota")}, "RouterNotReady", "slipstream-router: quota"),
        ({"told": False}, "Pending", "The router's configuration is being updated."),
        ({"down": "large"}, "BackendsNotReady", "Services that are not available: large."),
    ],
)
def test_what_keeps_a_route_from_answering_is_told(
    fields: dict[str, Any], reason: str, message: str
) -> None:
    found = _condition(_summary(**fields), "Available")
    assert found[:2] == ("False", reason)
    assert message in found[2]


CONDENSE = {**CASCADE, "condense": {"service": "small"}}
SEARCH = {"url": "http://search.team.svc/v1/vector_stores/a/search"}


def test_a_route_without_hooks_has_no_condition_of_them() -> None:
    assert "HooksReady" not in {entry["type"] for entry in _summary()["conditions"]}


@pytest.mark.parametrize("hooks", [CONDENSE, {**CASCADE, "retrieve": SEARCH}])
def test_hooks_whose_services_are_there_are_ready(hooks: dict[str, Any]) -> None:
    assert _condition(_summary(hooks), "HooksReady")[:2] == ("True", "HooksReady")


@pytest.mark.parametrize(
    ("service", "down", "reason", "message"),
    [
        (
            "tiny",
            "",
            "HookServiceMissing",
            "is not an InferenceService in this namespace. Create it",
        ),
        ("small", "small", "HookServiceNotReady", "Service small is not available."),
    ],
)
def test_a_hook_without_its_service_is_reported_and_the_route_stays_ready(
    service: str, down: str, reason: str, message: str
) -> None:
    spec = {**SPLIT, "condense": {"service": service}}
    found = _summary(spec, down=down)
    assert _condition(found, "HooksReady")[:2] == ("False", reason)
    assert message in _condition(found, "HooksReady")[2]
    assert _condition(found, "Accepted")[0] == "True"
    if not down:
        assert _condition(found, "Ready")[0] == "True"


def _sample(value: float, *, route: str = "assistant", **labels: str) -> Sample:
    return Sample({"namespace": "team", "route": route, **labels}, value)


MEASURED: Samples = {
    inference_routes.ANSWERS: (
        _sample(75.0, service="small"),
        _sample(25.0, service="large"),
        _sample(900.0, service="large", route="another"),
    ),
    inference_routes.TOKENS: (
        _sample(4000.0, service="small", outcome="kept"),
        _sample(1000.0, service="small", outcome="discarded"),
        _sample(2000.0, service="large", outcome="kept"),
    ),
}


def test_a_cascade_tells_its_shares_and_what_it_saved_and_spent() -> None:
    found = _summary(samples=MEASURED)
    assert found["stages"] == [
        {"service": "small", "share": "75.0%"},
        {"service": "large", "share": "25.0%"},
    ]
    assert (found["saved"], found["discarded"]) == ("4000 tokens/1h", "1000 tokens/1h")


def test_a_split_saves_nothing_and_discards_nothing() -> None:
    found = _summary(SPLIT, samples=MEASURED)
    assert [stage["share"] for stage in found["stages"]] == ["75.0%", "25.0%"]
    assert not {"saved", "discarded"} & found.keys()


@pytest.mark.parametrize(
    "samples",
    [
        {},
        {inference_routes.ANSWERS: (), inference_routes.TOKENS: ()},
        {inference_routes.ANSWERS: Unknown("down"), inference_routes.TOKENS: Unknown("down")},
    ],
)
def test_what_was_not_measured_is_left_out_and_not_zero(samples: Samples) -> None:
    found = _summary(samples=samples)
    assert found["stages"] == [{"service": "small"}, {"service": "large"}]
    assert not {"saved", "discarded"} & found.keys()


def test_numbers_that_move_are_not_what_the_status_is_about() -> None:
    assert inference_routes.essence(_summary()) == inference_routes.essence(
        _summary(samples=MEASURED)
    )
    assert inference_routes.essence(_summary()) != inference_routes.essence(_summary(down="large"))


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("missing", "Secret keys does not exist, or its entry search is missing or empty."),
        ("unreadable", "Secret keys can't be read by the router."),
    ],
)
def test_a_key_of_a_search_that_is_not_there_is_reported(state: str, said: str) -> None:
    spec = {**CASCADE, "retrieve": {**SEARCH, "apiKey": {"name": "keys", "key": "search"}}}
    listed = dataclasses.replace(UP, keys=KeyProblem(state))
    status, reason, message = _condition(_summary(spec, listed=listed), "HooksReady")
    assert (status, reason) == ("False", "HookKeyMissing")
    assert f"spec.retrieve.apiKey: {said}" in message
    assert message.endswith("Until then chats pass without passages.")
    assert _condition(_summary(spec), "HooksReady")[0] == "True"
