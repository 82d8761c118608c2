"""The operator's rights are those that it uses: no fewer, or it fails; no more, or it is a risk."""

from pathlib import Path
from typing import Any

import yaml

from slipstream_operator import kinds, names
from slipstream_operator.core import router_config
from slipstream_operator.core.observed import GatewayState
from slipstream_operator.core.render import router
from slipstream_runtime import contract
from tests.support import given

ROOT = Path(__file__).parents[2]
Right = tuple[str, str, str]
READ = ("get", "list", "watch")


def _rules(kind: str, *, name: str = names.OPERATOR) -> list[dict[str, Any]]:
    for path in sorted((ROOT / "manifests/base").glob("*.yaml")):
        for body in yaml.safe_load_all(path.read_text()):
            if body["kind"] == kind and body["metadata"]["name"] == name:
                rules: list[dict[str, Any]] = body["rules"]
                return rules
    raise AssertionError(f"no {kind} {name}")


def _granted(kind: str) -> set[Right]:
    return {
        (group, resource, verb)
        for rule in _rules(kind)
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def _used() -> set[Right]:
    watched = {(kind.group, kind.plural, verb) for kind in kinds.WATCHED for verb in READ}
    written = {
        (kind.group, kind.plural, verb)
        for kind in kinds.OWNED
        for verb in ("create", "patch", "delete")
    }
    polled = {(kind.group, kind.plural, "list") for kind in kinds.POLLED}
    read = {(kind.group, kind.plural, "get") for kind in kinds.POLLED if kind.owned}
    return {
        *watched,
        *polled,
        *read,
        *written,
        *_granted_on(),
        (names.GROUP, "inferenceservices/status", "patch"),
        (names.GROUP, "inferenceroutes/status", "patch"),
        (names.GROUP, "modelbuilds/status", "patch"),
        ("events.k8s.io", "events", "create"),
        *(("", "secrets", verb) for verb in ("get", "create", "patch")),
    }


def _granted_on() -> set[Right]:
    """Rules of the Roles that the operator creates. It can't grant rights that it lacks, except to routers."""
    roles = [manifest for manifest in _rendered() if manifest["kind"] == "Role"]
    assert len(roles) == 2
    escalated = {("", "secrets", verb) for verb in ("list", "watch")}
    return {
        ("rbac.authorization.k8s.io", "roles", "escalate"),
        ("rbac.authorization.k8s.io", "roles", "bind"),
    } | {
        (group, resource, verb)
        for role in roles
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    } - escalated


def _rendered() -> list[dict[str, Any]]:
    """Of a service that may be at zero, one behind a gateway, one over nodes, one that claims devices, and a router."""
    idle = {"minReplicas": 0, "idleAfter": "5m", "maxReplicas": 2}
    keyed = {"apiKeys": {"name": "keys"}}
    spec = {"model": given.MODEL, "scaling": idle, "routing": keyed}
    routed = given.observed(spec, pod_monitors=True)
    entry = given.entry(routed)
    assert entry is not None
    namespace = given.router([routed.parent], pod_monitors=True)
    found = router_config.resolve(namespace, {given.NAME: entry}, {})
    assert found is not None
    routing = {"mode": "Gateway", "gateway": {"name": "inference"}}
    attached = given.observed(
        {"model": given.MODEL, "routing": routing}, gateway=GatewayState(kinds=True)
    )
    spread = given.observed(
        {"model": given.MODEL, "parallelism": {"nodes": 2}}, leader_worker_sets=True
    )
    claiming = given.observed(
        profiles=[given.profile(accelerators=[{"name": "gpu", "deviceClass": "gpu.example.com"}])]
    )
    fetched = given.observed(
        {"model": given.MODEL, "cache": {"model": {"claim": {"name": "models"}}}}
    )
    return [
        *given.rendered(fetched),
        *given.rendered(routed),
        *given.rendered(attached),
        *given.rendered(spread),
        *given.rendered(claiming),
        *router.render(found),
    ]


def test_the_cluster_role_grants_what_is_used_and_nothing_more() -> None:
    assert _granted("ClusterRole") == _used()


def test_the_role_grants_the_lease_and_the_secret_for_prometheus_and_nothing_more() -> None:
    lease = ("coordination.k8s.io", "leases")
    assert _granted("Role") == {
        *((*lease, verb) for verb in ("create", "get", "update")),
        ("", "secrets", "get"),
    }
    named = {
        rule["resources"][0]: rule["resourceNames"]
        for rule in _rules("Role")
        if rule["verbs"] != ["create"]
    }
    assert named == {"leases": [names.LEASE], "secrets": ["slipstream-prometheus"]}


def test_no_role_names_everything() -> None:
    for rule in [*_rules("ClusterRole"), *_rules("Role")]:
        assert "*" not in {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}


def test_of_secrets_outside_its_namespace_only_tokens_are_named() -> None:
    (rule,) = (rule for rule in _rules("ClusterRole") if "secrets" in rule["resources"])
    assert rule["resourceNames"] == [names.ROUTER_TOKEN, names.ENGINE_TOKENS]
    assert rule["resources"] == ["secrets"]
    assert not {"list", "watch", "delete"} & set(rule["verbs"])


def test_rights_that_the_operator_lacks_go_to_the_role_of_a_router_alone() -> None:
    (rule,) = (rule for rule in _rules("ClusterRole") if "escalate" in rule["verbs"])
    assert rule["resources"] == ["roles"]
    assert rule["resourceNames"] == [contract.ROUTER_NAME]
    assert rule["verbs"] == ["escalate", "bind"]


def test_users_objects_are_only_read() -> None:
    verbs = {
        verb
        for group, resource, verb in _granted("ClusterRole")
        if group == names.GROUP and "/" not in resource
    }
    assert verbs == set(READ)


def test_every_kind_that_is_rendered_is_owned_in_the_api_version_of_the_table() -> None:
    assert {(manifest["apiVersion"], manifest["kind"]) for manifest in _rendered()} == {
        (kind.api_version, kind.name) for kind in kinds.OWNED
    }


def test_every_kind_that_is_owned_is_read_by_label() -> None:
    assert all(kind.read and kind.labeled for kind in kinds.OWNED)


def test_every_kind_that_is_owned_is_namespaced() -> None:
    """A child of a service lies in its namespace, so that garbage collection deletes it with the service."""
    assert all(kind.namespaced for kind in kinds.OWNED)


def test_app_teams_see_every_kind_of_ours_and_write_those_of_a_namespace() -> None:
    ours = [kind for kind in kinds.ALL if kind.group == names.GROUP]
    (seen,), (written,) = (
        _rules("ClusterRole", name=name) for name in ("slipstream-view", "slipstream-edit")
    )
    assert {one for one in seen["resources"] if "/" not in one} == {kind.plural for kind in ours}
    assert {one for one in seen["resources"] if one.endswith("/status")} == {
        f"{kind.plural}/status" for kind in ours if kind.namespaced
    }
    assert {one for one in written["resources"] if "/" not in one} == {
        kind.plural for kind in ours if kind.namespaced
    }
    assert not any(one.endswith("/status") for one in written["resources"])


def test_app_teams_may_not_write_profiles() -> None:
    (rule,) = _rules("ClusterRole", name="slipstream-edit")
    assert "servingprofiles" not in rule["resources"]


def test_the_policy_of_writes_covers_every_kind_that_the_operator_may_write() -> None:
    """Events, statuses and the token's Secret aside, whose rights name what they reach."""
    text = (ROOT / "manifests/base/writes.yaml").read_text()
    policy, binding = yaml.safe_load_all(text)
    rules = policy["spec"]["matchConstraints"]["resourceRules"]
    bound = {(rule["apiGroups"][0], name) for rule in rules for name in rule["resources"]}
    written = {
        (group, resource)
        for group, resource, verb in _granted("ClusterRole")
        if {verb} & {"create", "update", "patch", "delete"} and "/" not in resource
    }
    assert bound == written - {("events.k8s.io", "events")}
    assert {*rules[0]["operations"]} == {"CREATE", "UPDATE", "DELETE"}
    assert all(rule["operations"] == rules[0]["operations"] for rule in rules)
    assert policy["spec"]["failurePolicy"] == "Fail"
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]


def test_an_operator_for_named_namespaces_only_reads_what_has_no_namespace() -> None:
    overlay = ROOT / "manifests/overlays/namespaced"
    role, binding = yaml.safe_load_all((overlay / "cluster-rights.yaml").read_text())
    granted = {
        (group, resource): set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    cluster_scoped = {
        (kind.group, kind.plural) for kind in kinds.ALL if kind.read and not kind.namespaced
    }
    assert granted == {key: set(READ) for key in cluster_scoped}
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    bound = list(yaml.safe_load_all((overlay / "namespaces.yaml").read_text()))
    assert {one["kind"] for one in bound} == {"RoleBinding"}
    text = (overlay / "kustomization.yaml").read_text()
    assert ",".join(one["metadata"]["namespace"] for one in bound) in text
