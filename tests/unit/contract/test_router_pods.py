"""Pods and rights of routers and endpoint pickers, which no service, route or key changes."""

import json
from typing import Any

import hypothesis
from hypothesis import strategies as st

from slipstream_operator.core import router_config
from slipstream_operator.core.observed import Key, Parent
from slipstream_operator.core.render import gateway, router
from slipstream_operator.core.router_config import Entry
from slipstream_runtime.router.config import Config
from tests.support import given, router_entries


def _resolved(entries: dict[str, Entry] | None = None, **fields: Any) -> router.Router:
    found = router_config.resolve(
        given.router(router_entries.PARENTS, **fields), entries or router_entries.SERVICES, {}
    )
    assert found is not None
    return found


def test_without_a_service_there_is_no_router() -> None:
    assert router_config.resolve(given.router([]), {}, {}) is None


def test_a_role_names_the_leases_or_has_no_rule_for_them() -> None:
    role = given.find(router.render(_resolved()), "Role")
    assert "leases" not in json.dumps(role)
    entry = {"small": router_entries.entry(router_entries.EVERYTHING, name="small")}
    role = given.find(router.render(_resolved(entry)), "Role")
    (rule,) = (rule for rule in role["rules"] if rule["resources"] == ["leases"])
    assert rule["resourceNames"] == ["slipstream-router", "small-activation"]
    assert rule["verbs"] == ["get", "patch"]


def test_a_role_names_the_secrets_with_tokens_and_keys() -> None:
    entries = {
        name: router_entries.entry(router_entries.EVERYTHING, name=name)
        for name in ("small", "large")
    }
    for services, keys in (({}, []), (entries, ["keys"])):
        resolved = _resolved(services) if services else _resolved()
        role = given.find(router.render(resolved), "Role")
        (rule,) = (rule for rule in role["rules"] if rule["resources"] == ["secrets"])
        assert rule["resourceNames"] == ["slipstream-engine-tokens", *keys]
        assert rule["verbs"] == ["list", "watch"]
    config = router_entries.read(*entries.values())
    assert config.key_secrets == {"keys"}


_SPECS = st.fixed_dictionaries(
    {"model": st.just(given.MODEL)},
    optional={
        "replicas": st.integers(0, 5),
        "routing": st.fixed_dictionaries(
            {"strategy": st.sampled_from(["Prefix", "LeastLoad"])},
            optional={
                "apiKeys": st.fixed_dictionaries({"name": st.sampled_from(["keys", "others"])})
            },
        ),
        "limits": st.fixed_dictionaries({}, optional={"timeout": st.just("2h")}),
        "drain": st.just("30m"),
        "cache": st.just(router_entries.EVERYTHING["cache"]),
        "scaling": st.just(router_entries.EVERYTHING["scaling"]),
    },
).filter(lambda spec: not ("replicas" in spec and "scaling" in spec))
_NAMES = st.sampled_from(["small", "large", "third"])


@hypothesis.given(
    services=st.dictionaries(_NAMES, _SPECS, min_size=1),
    routes=st.dictionaries(_NAMES, st.just({"backends": []})),
)
def test_no_service_route_or_key_changes_the_routers_pods(
    services: dict[str, dict[str, Any]], routes: dict[str, Any]
) -> None:
    """A changed pod template would restart the router under the requests of all other services."""

    def template(entries: dict[str, Entry], parents: list[Parent], found: dict[str, Any]) -> Any:
        resolved = router_config.resolve(given.router(parents), entries, found)
        assert resolved is not None
        deployment = given.find(router.render(resolved), "Deployment")
        return {**deployment["spec"], "metadata": None}

    entries = {name: router_entries.entry(spec, name=name) for name, spec in services.items()}
    parents = [given.parent(spec, key=Key("team", name)) for name, spec in services.items()]
    named = {name: {"name": name, **route} for name, route in routes.items()}
    alone = {"only": router_entries.entry(name="only")}
    only = [given.parent({"model": given.MODEL}, key=Key("team", "only"))]
    assert template(entries, parents, named) == template(alone, only, {})


def test_the_profile_sizes_and_places_the_router() -> None:
    asked = {
        "replicas": 3,
        "nodeSelector": {"pool": "edge"},
        "tolerations": [{"key": "edge", "operator": "Exists"}],
        "runtimeClassName": "thin",
        "imagePullSecrets": [{"name": "registry"}],
        "priorityClassName": "high",
        "resources": {"requests": {"cpu": "1"}},
    }
    deployment = given.find(
        router.render(_resolved(profiles=[given.profile(router=asked)])), "Deployment"
    )
    pod = deployment["spec"]["template"]["spec"]
    assert deployment["spec"]["replicas"] == 3
    assert pod["containers"][0]["resources"] == asked["resources"]
    placed = set(asked) - {"replicas", "resources"}
    assert all(pod[key] == asked[key] for key in placed)


def test_a_router_with_another_account_has_its_rights() -> None:
    profile = given.profile(router={"serviceAccountName": "edge"})
    manifests = router.render(_resolved(profiles=[profile]))
    pod = given.find(manifests, "Deployment")["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "edge"
    (subject,) = given.find(manifests, "RoleBinding")["subjects"]
    assert subject["name"] == "edge"


def test_a_router_names_no_user_where_the_cluster_assigns_it() -> None:
    manifests = router.render(_resolved(profiles=[given.profile(users="Assigned")]))
    context = given.find(manifests, "Deployment")["spec"]["template"]["spec"]["securityContext"]
    assert context == {
        "runAsNonRoot": True,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def test_a_picker_has_the_secrets_priority_account_and_user_of_the_router() -> None:
    asked = {"imagePullSecrets": [{"name": "registry"}], "priorityClassName": "high"}
    profile = given.profile(router={**asked, "serviceAccountName": "edge"}, users="Assigned")
    spec = {
        "model": given.MODEL,
        "routing": {"mode": "Gateway", "gateway": {"name": "inference"}},
    }
    manifests = gateway.render(given.resolved(spec, profiles=[profile]), active="r")
    pod = given.find(manifests, "Deployment")["spec"]["template"]["spec"]
    assert {key: pod[key] for key in asked} == asked
    assert pod["serviceAccountName"] == "edge"
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    (subject,) = given.find(manifests, "RoleBinding")["subjects"]
    assert subject["name"] == "edge"


def test_a_services_drain_reaches_the_router_without_restarting_it() -> None:
    manifests = [
        router.render(
            _resolved({"small": router_entries.entry({"model": given.MODEL, "times": times})})
        )
        for times in ({"drain": "30m"}, {"drain": "15s"})
    ]
    long, short = (given.find(each, "Deployment") for each in manifests)
    assert long == short
    assert long["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 4 + 3600 + 10
    texts = [given.find(each, "ConfigMap")["data"]["router.json"] for each in manifests]
    drains = [Config.model_validate_json(text).services[0].limits.drain for text in texts]
    assert drains == [1800, None]


def test_a_single_router_may_be_evicted() -> None:
    kinds = [
        manifest["kind"]
        for manifest in router.render(_resolved(profiles=[given.profile(router={"replicas": 1})]))
    ]
    assert "PodDisruptionBudget" not in kinds


def test_the_token_is_in_the_secret_alone() -> None:
    token = router.token("team", account="uid", value="very-secret")
    assert token["stringData"] == {"token": "very-secret"}
    assert "very-secret" not in json.dumps(router.render(_resolved()))


def test_the_router_may_read_the_key_of_a_routes_search() -> None:
    key = {"secret": "search", "entry": "token"}
    route = {"name": "r", "model": "m", "backends": [], "retrieve": {"url": "u", "key": key}}
    for routes, secrets in (({"r": route}, ["search"]), ({}, [])):
        found = router_config.resolve(
            given.router(router_entries.PARENTS), router_entries.SERVICES, routes
        )
        assert found is not None
        (role,) = (each for each in router.render(found) if each["kind"] == "Role")
        (rule,) = (each for each in role["rules"] if each["resources"] == ["secrets"])
        assert rule["resourceNames"] == ["slipstream-engine-tokens", *secrets]
