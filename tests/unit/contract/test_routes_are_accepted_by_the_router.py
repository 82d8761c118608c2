"""Routes over services, as the operator writes them and the router reads them."""

from typing import Any

import pytest

from slipstream_operator import names
from slipstream_operator.core import inference_routes
from slipstream_operator.core.observed import Key, Parent
from tests.support import given, router_entries

CASCADE: dict[str, Any] = {
    "model": "assistant",
    "cascade": {
        "stages": [
            {"service": "small", "accept": {"minConfidence": "70%", "maxPromptTokens": 2000}},
            {"service": "large"},
        ],
        "budget": "50%",
    },
}
SPLIT: dict[str, Any] = {
    "model": "both",
    "backends": [{"service": "small", "weight": 3}, {"service": "large"}],
}


def _route(spec: dict[str, Any], *, name: str = "route", created: str = given.CREATED) -> Parent:
    key = Key("team", name, names.INFERENCE_ROUTE)
    return given.parent(spec, key=key, uid=f"uid-of-{name}", created=created)


def _judge(*found: Parent, **fields: Any) -> inference_routes.ValidatedRoutes:
    return inference_routes.validate(
        given.router(router_entries.PARENTS, routes=found, **fields), router_entries.SERVICES
    )


@pytest.mark.parametrize("spec", [CASCADE, SPLIT])
def test_the_router_reads_a_route(spec: dict[str, Any]) -> None:
    judged = _judge(_route(spec))
    (route,) = router_entries.read(routes=tuple(judged.entries.values())).routes
    assert route.model == spec["model"]


def test_every_choice_of_a_cascade_reaches_the_router() -> None:
    (route,) = router_entries.read(routes=tuple(_judge(_route(CASCADE)).entries.values())).routes
    first, last = route.stages
    assert (first.service, first.accept.min_confidence, first.accept.max_prompt_tokens) == (
        "small",
        0.7,
        2000,
    )
    assert (last.service, last.accept.min_confidence) == ("large", None)
    assert route.max_escalation == 0.5


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "a name that a service has": (
        {**SPLIT, "model": "small"},
        "NameTaken",
        'spec.model: "small" is already served by InferenceService small in this namespace',
    ),
    "a service that is not there": (
        {"model": "x", "backends": [{"service": "tiny"}]},
        "BackendNotFound",
        'spec.backends[0].service: "tiny" is not an InferenceService in this namespace. Create it',
    ),
    "a stage past the router": (
        {
            "model": "x",
            "cascade": {"stages": [CASCADE["cascade"]["stages"][0], {"service": "direct"}]},
        },
        "BackendNotFound",
        'spec.cascade.stages[1].service: "direct" is not served by the router',
    ),
}


@pytest.mark.parametrize(("spec", "reason", "message"), REFUSED.values(), ids=REFUSED)
def test_a_route_that_cannot_work_is_refused(
    spec: dict[str, Any], reason: str, message: str
) -> None:
    direct = given.parent(key=Key("team", "direct"))
    observed = given.router([*router_entries.PARENTS, direct], routes=[_route(spec)])
    judged = inference_routes.validate(observed, router_entries.SERVICES)
    refusal = judged.refused["route"]
    assert refusal.reason == reason
    assert message in refusal.message
    assert not judged.entries


def test_of_two_routes_the_older_holds_a_name() -> None:
    newer = _route(SPLIT, name="a", created="2026-03-01T00:00:00Z")
    judged = _judge(newer, _route(SPLIT, name="b"))
    assert set(judged.entries) == {"b"}
    assert judged.refused["a"].reason == "NameTaken"


def test_a_route_whose_change_cannot_work_stays_as_the_router_knows_it() -> None:
    known = {"name": "route", "model": "public", "backends": []}
    wrong = {"model": "public", "backends": [{"service": "tiny"}]}
    judged = _judge(_route(wrong), listed_routes={"route": known})
    assert judged.entries == {"route": known}
    assert judged.refused
