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


HOOKS: dict[str, Any] = {
    "condense": {
        "service": "small",
        "overTokens": 2000,
        "keepTurns": 2,
        "summaryTokens": 100,
        "timeout": "3s",
    },
    "retrieve": {
        "url": "http://search.team.svc:8000/v1/vector_stores/handbook/search",
        "topK": 7,
        "budgetTokens": 500,
        "timeout": "250ms",
        "apiKey": {"name": "search", "key": "token"},
    },
}


def _read(judged: inference_routes.ValidatedRoutes) -> Any:
    (route,) = router_entries.read(routes=tuple(judged.entries.values())).routes
    return route


@pytest.mark.parametrize("spec", [CASCADE, SPLIT])
def test_every_choice_of_the_hooks_reaches_the_router(spec: dict[str, Any]) -> None:
    route = _read(_judge(_route({**spec, **HOOKS})))
    condense, retrieve = route.condense, route.retrieve
    assert (condense.service, condense.over_tokens, condense.keep_turns) == ("small", 2000, 2)
    assert (condense.summary_tokens, condense.timeout) == (100, 3.0)
    assert (retrieve.url, retrieve.top_k) == (HOOKS["retrieve"]["url"], 7)
    assert (retrieve.budget_tokens, retrieve.timeout) == (500, 0.25)
    assert (retrieve.key.secret, retrieve.key.entry) == ("search", "token")


def test_a_hook_whose_service_is_missing_is_left_out_and_the_route_stays() -> None:
    condense = {"service": "tiny"}
    route = _read(_judge(_route({**SPLIT, "condense": condense})))
    assert route.condense is None
    assert route.backends


ELSEWHERE = [
    "http://search.other.svc:8000",
    "http://search:8000",
    "http://localhost:8081",
    "http://127.0.0.1",
    "http://[::1]",
    "http://169.254.169.254",
    "http://2130706433",
    "http://search.team.svc.evil.com",
    "http://search.team.svc.cluster.local.evil.com",
    "http://evil.com.team.svc",
    "http://search.teamxsvc",
    "http://kubernetes.default.svc",
    "https://user@search.team.svc",
    "ftp://search.team.svc",
    "http://search.team.svc:99999",
    "http://search.team.svc:0",
]


@pytest.mark.parametrize("server", ELSEWHERE)
def test_a_search_outside_of_the_namespace_is_refused(server: str) -> None:
    url = f"{server}/v1/vector_stores/a/search"
    refusal = _judge(_route({**SPLIT, "retrieve": {"url": url}})).refused["route"]
    assert refusal.message.startswith(f'spec.retrieve.url: "{url}" ')
    assert "http://search.team.svc:8000/v1/vector_stores/handbook/search" in refusal.message


PATHS = [
    "",
    "/",
    "/v1/chat/completions",
    "/v1/vector_stores/a/search?x=1",
    "/vector_stores/../search",
]


@pytest.mark.parametrize("path", [*PATHS, "/vector_stores/a/search#x", "/vector_stores//search"])
def test_only_a_search_can_be_requested(path: str) -> None:
    url = f"http://search.team.svc{path}"
    refusal = _judge(_route({**SPLIT, "retrieve": {"url": url}})).refused["route"]
    assert refusal.reason == "InvalidSpec"


ALLOWED = {
    "https://search.example.com": ["https://search.example.com", "https://search.example.com:443"],
    "http://*.search.svc:8000": ["http://a.search.svc:8000"],
}
NOT_ALLOWED = {
    "https://*.example.com": [
        "http://a.example.com",
        "https://a.example.com:8443",
        "https://evil.com",
        "https://a.example.com.evil.com",
    ],
}


def _with_profile(server: str, *patterns: str, **fields: Any) -> inference_routes.ValidatedRoutes:
    url = f"{server}/v1/vector_stores/a/search"
    profile = given.profile(retrieval={"allow": [*patterns]})
    return _judge(_route({**SPLIT, "retrieve": {"url": url}}), profiles=[profile], **fields)


@pytest.mark.parametrize("pattern", ALLOWED)
def test_a_profile_allows_other_servers(pattern: str) -> None:
    for server in ALLOWED[pattern]:
        assert not _with_profile(server, pattern).refused


@pytest.mark.parametrize("pattern", NOT_ALLOWED)
def test_a_pattern_allows_no_other_server(pattern: str) -> None:
    for server in NOT_ALLOWED[pattern]:
        refusal = _with_profile(server, pattern).refused["route"]
        assert refusal.reason == "NotAllowed"
        assert f'add "{server}" to retrieval.allow' in refusal.message


def test_a_search_that_is_not_allowed_any_more_leaves_the_router() -> None:
    known = _with_profile("https://a.b", "https://a.b").entries["route"]
    assert "retrieve" in known
    judged = _with_profile("https://a.b", listed_routes={"route": known})
    assert judged.refused["route"].reason == "NotAllowed"
    assert "retrieve" not in judged.entries["route"]
    assert judged.entries["route"]["backends"]


def test_a_secret_outside_of_the_profiles_list_is_refused() -> None:
    profile = given.profile(secrets={"allow": ["hub-*"]})
    judged = _judge(_route({**SPLIT, "retrieve": HOOKS["retrieve"]}), profiles=[profile])
    assert judged.refused["route"].message.startswith('spec.retrieve.apiKey.name: "search" ')
