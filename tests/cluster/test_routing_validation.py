"""Routes, and fields that need the router, that the API server stores or refuses."""

from typing import Any

import pytest

from dev.cluster.kube import Kube, Refused
from tests.support.specs import changed


@pytest.mark.parametrize("field", ["hold", "idle", "body"])
def test_a_time_of_the_router_needs_the_router(kube: Kube, namespace: str, field: str) -> None:
    manifest = changed("spec.times", {field: "10m"}, namespace)
    manifest["spec"]["routing"] = {"mode": "Direct"}
    with pytest.raises(Refused, match=rf"times\.{field} needs routing\.mode: Router"):
        kube.apply(manifest)


IDLE = {"minReplicas": 0, "idleAfter": "15m", "maxReplicas": 2}

NEEDS_THE_ROUTER = [
    (
        {"scaling": IDLE, "routing": {"mode": "Direct"}},
        "scaling.minReplicas: 0 needs routing.mode: Router, which holds requests while no replica is ready",
    ),
    (
        {"cache": {"responses": {"ttl": "1m"}}, "routing": {"mode": "Direct"}},
        "cache.responses needs routing.mode: Router, which caches the responses",
    ),
    (
        {"rollout": {"steps": ["5%"]}, "routing": {"mode": "Direct"}},
        "rollout.steps needs routing.mode: Router, which gives each revision its share of the requests",
    ),
]


@pytest.mark.parametrize(("spec", "message"), NEEDS_THE_ROUTER)
def test_what_only_the_router_can_do_is_refused_without_it(
    kube: Kube, namespace: str, spec: dict[str, Any], message: str
) -> None:
    manifest = changed("metadata.name", "routed", namespace)
    manifest["spec"] |= spec
    with pytest.raises(Refused) as refusal:
        kube.apply(manifest)
    assert message in refusal.value.message


def test_scaling_to_zero_and_kept_answers_are_stored_as_written(kube: Kube, namespace: str) -> None:
    manifest = changed("metadata.name", "routed", namespace)
    parts = {
        "scaling": {**IDLE, "mode": "Auto"},
        "cache": {"responses": {"ttl": "10m", "size": "256Mi"}},
        "routing": {"mode": "Router", "strategy": "LeastLoad", "apiKeys": {"name": "keys"}},
        "rollout": {
            "strategy": "Canary",
            "steps": ["5%", "25%", "50%"],
            "pause": "10m",
            "tolerance": "5%",
            "surge": 0,
            "analysis": {"slo": True, "errors": True, "minRequests": 500, "maxDuration": "2h"},
        },
    }
    manifest["spec"] |= parts
    stored = kube.apply(manifest)["spec"]
    assert {name: stored[name] for name in parts} == parts


def test_a_simulator_checks_no_keys_by_itself(kube: Kube, namespace: str) -> None:
    manifest = changed("spec.model", None, namespace)
    routing = {"mode": "Direct", "apiKeys": {"name": "keys"}}
    manifest["spec"] |= {"runtime": "simulator", "routing": routing}
    with pytest.raises(Refused, match=r"needs routing\.mode: Router with runtime"):
        kube.apply(manifest)
    manifest["spec"]["routing"] = {"apiKeys": {"name": "keys"}}
    kube.apply(manifest)


CASCADE = {"stages": [{"service": "a", "accept": {"minConfidence": "70%"}}, {"service": "b"}]}
SPLIT = {"backends": [{"service": "a", "weight": 1}]}
SEARCH = {"url": "https://search.team.svc:8443/base/v1/vector_stores/hand-book_1/search"}

REFUSED_ROUTES: list[tuple[dict[str, Any], str]] = [
    ({}, "needs exactly one of backends (a weighted split) and cascade"),
    (
        {"backends": [{"service": "a"}], "cascade": CASCADE},
        "needs exactly one of backends (a weighted split) and cascade",
    ),
    ({"backends": [{"service": "a", "weight": 0}]}, "at least one weight must be above 0"),
    ({"backends": [{"service": "a"}, {"service": "a"}]}, "duplicate entries for key"),
    (
        {"cascade": {"stages": [{"service": "a"}, {"service": "b"}]}},
        "each stage except the last needs accept",
    ),
    (
        {"cascade": {"stages": [CASCADE["stages"][0], CASCADE["stages"][0]]}},
        "Remove accept from the last stage",
    ),
    (
        {"cascade": {"stages": [{"service": "a", "accept": {}}, {"service": "b"}]}},
        "needs at least one of minConfidence and maxPromptTokens",
    ),
    ({"cascade": {**CASCADE, "budget": "half"}}, '"half" is not a percentage'),
    (
        {**SPLIT, "retrieve": {"url": "http://search.team.svc/v1/chat/completions"}},
        '"http://search.team.svc/v1/chat/completions" is not the URL of a search',
    ),
    ({**SPLIT, "retrieve": {**SEARCH, "timeout": "2m"}}, '"2m" is out of range'),
    ({**SPLIT, "retrieve": {**SEARCH, "topK": 51}}, "spec.retrieve.topK"),
    ({**SPLIT, "condense": {"service": "a", "keepTurns": 0}}, "spec.condense.keepTurns"),
    ({**SPLIT, "condense": {"service": "a", "timeout": "1h"}}, '"1h" is out of range'),
]


ACCEPTED_ROUTES = [
    {**SPLIT, "retrieve": SEARCH, "condense": {"service": "a"}},
    {
        **SPLIT,
        "retrieve": {
            **SEARCH,
            "topK": 50,
            "budgetTokens": 16,
            "timeout": "30s",
            "apiKey": {"name": "search", "key": "token"},
        },
        "condense": {
            "service": "a",
            "overTokens": 64,
            "keepTurns": 1,
            "summaryTokens": 16,
            "timeout": "100ms",
        },
    },
]


def _route(namespace: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "slipstream.dev/v1alpha1",
        "kind": "InferenceRoute",
        "metadata": {"name": "route", "namespace": namespace},
        "spec": {"model": "public", **spec},
    }


@pytest.mark.parametrize(("spec", "message"), REFUSED_ROUTES)
def test_a_route_that_cannot_work_is_refused(
    kube: Kube, namespace: str, spec: dict[str, Any], message: str
) -> None:
    with pytest.raises(Refused) as refusal:
        kube.apply(_route(namespace, spec))
    assert message in refusal.value.message


@pytest.mark.parametrize("spec", ACCEPTED_ROUTES)
def test_a_route_with_hooks_is_stored_as_written(
    kube: Kube, namespace: str, spec: dict[str, Any]
) -> None:
    stored = kube.apply(_route(namespace, spec))["spec"]
    assert {name: stored[name] for name in ("retrieve", "condense")} == {
        name: spec[name] for name in ("retrieve", "condense")
    }


def test_a_routes_weights_are_one_by_default(kube: Kube, namespace: str) -> None:
    stored = kube.apply(_route(namespace, {"backends": [{"service": "a"}]}))
    assert stored["spec"]["backends"] == [{"service": "a", "weight": 1}]
