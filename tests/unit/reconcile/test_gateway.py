"""Gateway mode: what is attached, and what keeps a service from being reached through its gateway."""

import copy
import dataclasses
from typing import Any

import pytest

from slipstream_operator.core import gateway
from slipstream_operator.core.observed import Child, GatewayState, Observed
from tests.support import given

SPEC: dict[str, Any] = {
    "model": given.MODEL,
    "routing": {"mode": "Gateway", "gateway": {"name": "inference", "namespace": "gateways"}},
}
PROGRAMMED = GatewayState(
    kinds=True,
    status={
        "conditions": [{"type": "Programmed", "status": "True"}],
        "addresses": [{"value": "192.0.2.7"}],
    },
)
PARENT = {"name": "inference", "namespace": "gateways"}


def _conditions(*, generation: int = 3, **statuses: str) -> list[dict[str, Any]]:
    return [
        {
            "type": kind,
            "status": "True" if status == "True" else "False",
            "reason": status,
            "message": "so it is",
            "observedGeneration": generation,
        }
        for kind, status in statuses.items()
    ]


GOOD = [{"parentRef": PARENT, "conditions": _conditions(Accepted="True", ResolvedRefs="True")}]


def _child(manifest: dict[str, Any], status: dict[str, Any]) -> Child:
    return dataclasses.replace(given.child(manifest), status=status, generation=3)


def _attached(
    *,
    pool: Any = GOOD,
    route: Any = GOOD,
    picker: int = 1,
    state: GatewayState = PROGRAMMED,
    without: str = "",
) -> Observed:
    """A service whose objects a gateway's controller has answered so."""
    statuses = {
        "InferencePool": {"parents": pool},
        "HTTPRoute": {"parents": route},
        "Deployment": {"availableReplicas": picker},
    }
    rendered = given.rendered(given.observed(SPEC, gateway=PROGRAMMED))
    children = [
        _child(copy.deepcopy(manifest), statuses.get(manifest["kind"], {}))
        for manifest in rendered
        if manifest["kind"] != without
    ]
    return given.observed(SPEC, children=children, gateway=state)


def _standing(observed: Observed) -> gateway.Attachment:
    return gateway.attachment(observed, given.resolved(SPEC))


def _answer(parent: dict[str, str] = PARENT, **statuses: str) -> list[dict[str, Any]]:
    return [{"parentRef": parent, "conditions": _conditions(**statuses)}]


def test_what_a_gateway_has_accepted_is_reached_at_its_address() -> None:
    assert _standing(_attached()) == gateway.Attachment(url="http://192.0.2.7/team/chat/v1")


def test_without_an_address_the_url_is_not_known() -> None:
    status = {"conditions": [{"type": "Programmed", "status": "True"}]}
    found = _standing(_attached(state=GatewayState(kinds=True, status=status)))
    assert found == gateway.Attachment()


STALE = [
    {
        "parentRef": PARENT,
        "conditions": _conditions(generation=2, Accepted="True", ResolvedRefs="True"),
    }
]
STALE_REFUSAL = [
    {
        "parentRef": PARENT,
        "conditions": _conditions(generation=2, Accepted="True", ResolvedRefs="InvalidKind"),
    }
]
POLICY = [{"parentRef": PARENT, "conditions": _conditions(Overridden="False")}]
PROBLEMS: dict[str, tuple[dict[str, Any], str, str]] = {
    "no kinds": (
        {"state": GatewayState()},
        "GatewayUnavailable",
        "needs HTTPRoute and InferencePool v1, which the cluster does not have",
    ),
    "no gateway": (
        {"state": GatewayState(kinds=True)},
        "GatewayUnavailable",
        "Gateway gateways/inference does not exist. Create it, or change spec.routing.gateway.",
    ),
    "a gateway that nobody looked at": (
        {"state": GatewayState(kinds=True, status={})},
        "GatewayNotReady",
        "Gateway gateways/inference is not programmed",
    ),
    "a gateway in trouble": (
        {
            "state": GatewayState(
                kinds=True, status={"conditions": _conditions(Programmed="NoResources")}
            )
        },
        "GatewayNotReady",
        "is not programmed: NoResources: so it is",
    ),
    "no pool yet": ({"without": "InferencePool"}, "GatewayNotReady", "does not exist yet"),
    "a pool that nobody claimed": (
        {"pool": []},
        "GatewayNotReady",
        "No gateway has claimed InferencePool chat yet.",
    ),
    "a route that another gateway claimed": (
        {"route": _answer({"name": "other"}, Accepted="True", ResolvedRefs="True")},
        "GatewayNotReady",
        "No gateway has claimed HTTPRoute chat yet.",
    ),
    "a route of which only a policy speaks": (
        {"route": POLICY},
        "GatewayNotReady",
        "No gateway has claimed HTTPRoute chat yet.",
    ),
    "an answer to an older route": (
        {"route": STALE},
        "GatewayNotReady",
        "The gateway has not processed the last change of HTTPRoute chat yet.",
    ),
    "a pool that another gateway accepted": (
        {"pool": _answer({"name": "other"}, Accepted="True", ResolvedRefs="True")},
        "GatewayNotReady",
        "No gateway has claimed InferencePool chat yet.",
    ),
    "an answer to an older pool": (
        {"pool": STALE},
        "GatewayNotReady",
        "The gateway has not processed the last change of InferencePool chat yet.",
    ),
    "a refusal of an older route": (
        {"route": STALE_REFUSAL},
        "GatewayNotReady",
        "The gateway has not processed the last change of HTTPRoute chat yet.",
    ),
    "a gateway that takes no pools": (
        {"pool": _answer(Accepted="NotSupportedByParent", ResolvedRefs="True")},
        "GatewayDegraded",
        "InferencePool chat is not Accepted: NotSupportedByParent",
    ),
    "references that are not resolved yet": (
        {"route": _answer(Accepted="True")},
        "GatewayNotReady",
        "HTTPRoute chat is not ResolvedRefs",
    ),
    "a gateway that knows no pools": (
        {"route": _answer(Accepted="True", ResolvedRefs="InvalidKind")},
        "GatewayDegraded",
        "HTTPRoute chat is not ResolvedRefs: InvalidKind: so it is",
    ),
    "a listener that takes no routes": (
        {"route": _answer(Accepted="NotAllowedByListeners", ResolvedRefs="True")},
        "GatewayDegraded",
        "HTTPRoute chat is not Accepted: NotAllowedByListeners",
    ),
    "no picker": (
        {"picker": 0},
        "GatewayNotReady",
        "Deployment chat-epp is not available.",
    ),
}


@pytest.mark.parametrize(("given_so", "reason", "message"), PROBLEMS.values(), ids=PROBLEMS)
def test_what_keeps_requests_from_passing_is_told(
    given_so: dict[str, Any], reason: str, message: str
) -> None:
    found = _standing(_attached(**given_so))
    assert found.problem is not None
    assert found.problem[0] == reason
    assert message in found.problem[1]
    assert found.url is None


def test_what_another_gateway_refuses_is_not_held_against_ours() -> None:
    refused = _answer({"name": "other"}, Accepted="NotSupportedByParent")
    assert _standing(_attached(pool=[*refused, *GOOD])).problem is None


def test_without_its_picker_the_gateway_is_told_to_pick_by_itself() -> None:
    rendered = given.rendered(given.observed(SPEC, gateway=PROGRAMMED))
    pool = given.find(rendered, "InferencePool")
    assert pool["spec"]["endpointPickerRef"]["failureMode"] == "FailOpen"


def test_without_the_kinds_nothing_of_them_is_made() -> None:
    kinds = {manifest["kind"] for manifest in given.rendered(given.observed(SPEC))}
    assert not {"InferencePool", "HTTPRoute", "ServiceAccount"} & kinds


def test_the_pool_holds_what_the_service_selects() -> None:
    rendered = given.rendered(given.observed(SPEC, gateway=PROGRAMMED))
    pool = given.find(rendered, "InferencePool")
    service = given.find(rendered, "Service", name=given.NAME)
    assert pool["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]


def test_behind_a_gateway_engines_ask_for_the_users_keys() -> None:
    keyed = {**SPEC, "routing": {**SPEC["routing"], "apiKeys": {"name": "keys"}}}
    assert given.resolved(keyed).revisioned.api_keys == "keys"
    assert given.resolved(SPEC).revisioned.api_keys is None


def test_engines_behind_a_gateway_show_their_metrics_where_pickers_look() -> None:
    direct = {**SPEC, "routing": {"mode": "Direct"}}
    simulated = {key: value for key, value in SPEC.items() if key != "model"}
    for spec in (SPEC, {**simulated, "runtime": "simulator"}):
        assert given.resolved(spec).revisioned.config["openMetrics"] is True
    assert "openMetrics" not in given.resolved(direct).revisioned.config


def test_pickers_get_only_options_that_each_of_their_versions_knows() -> None:
    rendered = given.rendered(given.observed(SPEC, gateway=PROGRAMMED))
    picker = given.find(rendered, "Deployment", name=f"{given.NAME}-epp")
    pod = picker["spec"]["template"]["spec"]
    options = {word.partition("=")[0] for word in pod["containers"][0]["args"]}
    assert options == {
        "--pool-name",
        "--pool-namespace",
        "--pool-group",
        "--grpc-port",
        "--grpc-health-port",
        "--metrics-port",
        "--metrics-endpoint-auth",
        "--zap-encoder",
        "--tracing",
    }
    assert "volumes" not in pod
