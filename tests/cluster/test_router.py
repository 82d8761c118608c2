"""The router of a namespace: it comes and goes with those that use it, and the traffic moves to it and back."""

import datetime
import json
from typing import Any

import pytest

from dev.cluster.kube import Kube, Object, condition, is_true
from tests.support import commands, services

SOON = 20.0
GONE = 60.0
"""The garbage collector pauses while kinds come and go."""
SYSTEM = "slipstream-system"
NAME = "slipstream-router"
OBJECTS = {
    "ServiceAccount": NAME,
    "Role": NAME,
    "RoleBinding": NAME,
    "ConfigMap": NAME,
    "NetworkPolicy": NAME,
    "Deployment": NAME,
    "Service": NAME,
    "PodDisruptionBudget": NAME,
    "Secret": "slipstream-router-token",
}
ROUTER = {
    "app.kubernetes.io/name": "slipstream",
    "app.kubernetes.io/component": "router",
    "app.kubernetes.io/managed-by": "slipstream-operator",
}


def routed(namespace: str, name: str, **spec: Any) -> dict[str, Any]:
    return services.simulated(namespace, name, **{"routing": {"mode": "Router"}, **spec})


def listed(item: Object) -> dict[str, Any]:
    """Service -> entry of the router's configuration."""
    document = json.loads(item["data"]["router.json"])
    return {entry["name"]: entry for entry in document["services"]}


def until_listed(kube: Kube, namespace: str, *names: str) -> dict[str, Any]:
    found: dict[str, Any] = kube.until(
        "ConfigMap",
        namespace,
        lambda items: items and set(listed(items[0])) == set(names) and listed(items[0]),
        name=NAME,
        timeout=SOON,
    )
    return found


def gone(kube: Kube, namespace: str) -> None:
    for kind, name in OBJECTS.items():
        kube.until(kind, namespace, lambda items: not items, name=name, timeout=GONE)


def selector(kube: Kube, namespace: str, name: str = "chat") -> dict[str, str]:
    service = kube.get("Service", namespace, name)
    assert service is not None
    found: dict[str, str] = service["spec"]["selector"]
    return found


def operators(kube: Kube, count: int) -> None:
    kube.patch("Deployment", SYSTEM, "slipstream-operator", {"spec": {"replicas": count}})
    kube.until(
        "Deployment",
        SYSTEM,
        lambda items: items[0]["status"].get("readyReplicas", 0) == count,
        name="slipstream-operator",
        timeout=GONE,
    )


def test_it_comes_with_the_first_service_and_goes_with_the_last(kube: Kube, namespace: str) -> None:
    kube.apply(routed(namespace, "one"))
    services.ready(kube, namespace, "one")
    for kind, name in OBJECTS.items():
        kube.until(kind, namespace, bool, name=name, timeout=SOON)
    kube.apply(routed(namespace, "two"))
    until_listed(kube, namespace, "one", "two")
    kube.delete("InferenceService", namespace, "one")
    until_listed(kube, namespace, "two")
    services.ready(kube, namespace, "two")
    kube.delete("InferenceService", namespace, "two")
    gone(kube, namespace)


def test_it_goes_with_the_last_service_with_the_operator_down_too(
    kube: Kube, namespace: str
) -> None:
    kube.apply(routed(namespace, "one"))
    services.ready(kube, namespace, "one")
    kube.until("Secret", namespace, bool, name=OBJECTS["Secret"], timeout=SOON)
    operators(kube, 0)
    try:
        kube.delete("InferenceService", namespace, "one")
        gone(kube, namespace)
    finally:
        operators(kube, 2)


def test_a_service_past_the_router_needs_none(kube: Kube, namespace: str) -> None:
    kube.apply(services.simulated(namespace, "chat"))
    services.ready(kube, namespace, "chat")
    assert kube.get("Deployment", namespace, NAME) is None


def test_its_owners_are_all_who_use_it_and_none_controls_it(kube: Kube, namespace: str) -> None:
    kube.apply(routed(namespace, "one"))
    kube.apply(routed(namespace, "two"))
    until_listed(kube, namespace, "one", "two")

    def owned(items: list[Object]) -> bool:
        owners = items[0]["metadata"]["ownerReferences"] if items else []
        return {owner["name"] for owner in owners} == {"one", "two"} and not any(
            owner.get("controller") for owner in owners
        )

    for kind, name in OBJECTS.items():
        if kind != "Secret":
            kube.until(kind, namespace, owned, name=name, timeout=SOON)


def test_each_service_has_a_token_of_its_own_until_it_is_deleted(
    kube: Kube, namespace: str
) -> None:
    def entries(count: int) -> dict[str, str]:
        found: dict[str, str] = kube.until(
            "Secret",
            namespace,
            lambda items: items and len(items[0].get("data", {})) == count and items[0]["data"],
            name="slipstream-engine-tokens",
            timeout=SOON,
        )
        return found

    uids = [kube.apply(routed(namespace, name))["metadata"]["uid"] for name in ("one", "two")]
    before = entries(2)
    assert set(before) == set(uids)
    assert len(set(before.values())) == 2
    kube.delete("InferenceService", namespace, "two")
    assert entries(1) == {uids[0]: before[uids[0]]}


def test_its_token_is_made_once_and_belongs_to_its_account(kube: Kube, namespace: str) -> None:
    kube.apply(routed(namespace, "one"))
    services.ready(kube, namespace, "one")
    before = kube.until(
        "Secret",
        namespace,
        lambda items: items and items[0],
        name=OBJECTS["Secret"],
        timeout=SOON,
    )
    (owner,) = before["metadata"]["ownerReferences"]
    account = kube.get("ServiceAccount", namespace, NAME)
    assert account is not None
    assert owner["uid"] == account["metadata"]["uid"]
    assert len(before["data"]["token"]) >= 43
    kube.apply(routed(namespace, "two"))
    services.ready(kube, namespace, "two")
    after = kube.get("Secret", namespace, OBJECTS["Secret"])
    assert after is not None
    assert after["data"] == before["data"]


def test_a_strangers_secret_of_its_name_is_left_alone(kube: Kube, namespace: str) -> None:
    theirs = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": OBJECTS["Secret"], "namespace": namespace},
        "stringData": {"token": "theirs"},
    }
    before = kube.apply(theirs)
    kube.apply(routed(namespace, "one"))
    waiting = kube.until(
        "InferenceService",
        namespace,
        lambda items: (
            condition(items[0], "Reconciling").get("reason") == "NameConflict" and items[0]
        ),
        name="one",
        timeout=SOON,
    )
    assert OBJECTS["Secret"] in condition(waiting, "Reconciling")["message"]
    found = kube.get("Secret", namespace, OBJECTS["Secret"])
    assert found is not None
    assert (found["data"], found["metadata"]["uid"]) == (
        before["data"],
        before["metadata"]["uid"],
    )
    assert kube.get("Deployment", namespace, NAME) is None
    kube.delete("Secret", namespace, OBJECTS["Secret"])
    kube.until("Deployment", namespace, bool, name=NAME, timeout=SOON)


@pytest.mark.parametrize(
    ("verb", "resource", "allowed"),
    [
        ("get", "configmaps/slipstream-router", True),
        ("watch", "configmaps/slipstream-router", True),
        ("get", "configmaps/one-state", False),
        ("list", "configmaps", False),
        ("patch", "configmaps/slipstream-router", False),
        ("list", "endpointslices.discovery.k8s.io", True),
        ("watch", "endpointslices.discovery.k8s.io", True),
        ("patch", "leases.coordination.k8s.io/one-activation", True),
        ("get", "leases.coordination.k8s.io/one-activation", True),
        ("patch", "leases.coordination.k8s.io/slipstream-router", True),
        ("patch", "leases.coordination.k8s.io/other", False),
        ("list", "leases.coordination.k8s.io", False),
        ("get", "secrets/slipstream-router-token", False),
        ("watch", "secrets/slipstream-engine-tokens", True),
        ("get", "secrets/slipstream-engine-tokens", False),
        ("list", "secrets/slipstream-router-token", False),
        ("watch", "secrets/keys", True),
        ("get", "secrets/keys", False),
        ("list", "secrets", False),
        ("list", "pods", False),
        ("get", "inferenceservices.slipstream.dev", False),
    ],
)
def test_its_rights_are_the_least(
    kube: Kube, namespace: str, verb: str, resource: str, allowed: bool
) -> None:
    idle = {"minReplicas": 0, "idleAfter": "10m", "maxReplicas": 2}
    keyed = {"mode": "Router", "apiKeys": {"name": "keys"}}
    kube.apply(routed(namespace, "one", scaling=idle, routing=keyed))
    kube.until(
        "Role",
        namespace,
        lambda items: items and len(items[0]["rules"]) == 4,
        name=NAME,
        timeout=SOON,
    )
    kube.until("RoleBinding", namespace, bool, name=NAME, timeout=SOON)
    account = f"system:serviceaccount:{namespace}:{NAME}"
    answer = kube.kubectl(
        "auth", "can-i", verb, resource, "-n", namespace, f"--as={account}", check=False
    )
    assert answer.strip().startswith("yes" if allowed else "no")


OPERATOR = f"system:serviceaccount:{SYSTEM}:slipstream-operator"
OURS = {"app.kubernetes.io/managed-by": "slipstream-operator"}
RULE = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["list", "watch"]}


def _apply_as_operator(kube: Kube, manifest: dict[str, Any]) -> str:
    arguments = ("apply", "--server-side", f"--as={OPERATOR}", "-f", "-")
    return kube.kubectl(*arguments, stdin=json.dumps(manifest), check=False)


@pytest.mark.parametrize(
    ("name", "rule", "allowed"),
    [
        (NAME, {**RULE, "resourceNames": ["keys"]}, True),
        (NAME, RULE, False),
        (NAME, {**RULE, "resourceNames": []}, False),
        (NAME, {**RULE, "resourceNames": ["keys"], "verbs": ["delete"]}, False),
        (NAME, {**RULE, "resourceNames": ["keys"], "verbs": ["*"]}, False),
        (NAME, {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}, False),
        (NAME, {**RULE, "resources": ["pods"]}, False),
        ("another", {**RULE, "resourceNames": ["keys"]}, False),
    ],
    ids=["named", "all", "none", "delete", "every verb", "everything", "pods", "another role"],
)
def test_the_operator_can_give_a_router_named_secrets_and_nothing_else(
    kube: Kube, namespace: str, name: str, rule: dict[str, Any], allowed: bool
) -> None:
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": name, "namespace": namespace, "labels": OURS},
        "rules": [rule],
    }
    _apply_as_operator(kube, role)
    assert (kube.get("Role", namespace, name) is not None) == allowed


def test_a_routers_rights_stay_in_its_namespace(kube: Kube, namespace: str) -> None:
    def binding(name: str, subject: dict[str, str]) -> dict[str, Any]:
        return {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": name, "namespace": namespace, "labels": OURS},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": NAME},
            "subjects": [subject],
        }

    account = {"kind": "ServiceAccount", "name": NAME}
    everyone = {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "Group",
        "name": "system:authenticated",
    }
    _apply_as_operator(kube, binding("its-own", {**account, "namespace": namespace}))
    _apply_as_operator(kube, binding("elsewhere", {**account, "namespace": "kube-system"}))
    _apply_as_operator(kube, binding("everyone", everyone))
    found = {item["metadata"]["name"] for item in kube.find("RoleBinding", namespace)}
    assert "its-own" in found
    assert not {"elsewhere", "everyone"} & found


def test_no_service_runs_as_the_router(kube: Kube, namespace: str) -> None:
    template = {**services.FAKE_NODES, "serviceAccountName": NAME}
    kube.apply(services.simulated(namespace, "thief", template=template))
    refused = kube.until(
        "InferenceService",
        namespace,
        lambda items: items and condition(items[0], "Accepted").get("status") == "False" and items,
        name="thief",
        timeout=SOON,
    )
    message = condition(refused[0], "Accepted")["message"]
    assert message.startswith(
        'spec.template.serviceAccountName: "slipstream-router" can\'t be used'
    )


def test_an_edited_configuration_is_repaired(kube: Kube, namespace: str) -> None:
    kube.apply(routed(namespace, "one"))
    services.ready(kube, namespace, "one")
    kube.patch("ConfigMap", namespace, NAME, {"data": {"router.json": "{}"}})
    kube.until(
        "ConfigMap",
        namespace,
        lambda items: items[0]["data"]["router.json"] != "{}" and set(listed(items[0])) == {"one"},
        name=NAME,
        timeout=SOON,
    )


def test_a_rolling_update_moves_weights_and_not_the_service(kube: Kube, namespace: str) -> None:
    kube.apply(routed(namespace, "chat"))
    services.ready(kube, namespace, "chat")
    (first,) = until_listed(kube, namespace, "chat")["chat"]["revisions"]
    assert first["weight"] == 100
    kube.apply(routed(namespace, "chat", simulator={"alpha": "9ms"}))

    def moved(items: list[Object]) -> bool:
        revisions = listed(items[0])["chat"]["revisions"]
        return len(revisions) == 1 and revisions[0]["name"] != first["name"]

    kube.until("ConfigMap", namespace, moved, name=NAME, timeout=SOON)
    assert selector(kube, namespace) == ROUTER
    kube.until("Deployment", namespace, lambda items: not items, name=first["name"], timeout=SOON)


def test_a_canary_gets_its_share_and_goes_back_or_on_by_the_users_commands(
    kube: Kube, namespace: str
) -> None:
    rollout = {"steps": ["10%", "50%"], "pause": "1h"}
    kube.apply(routed(namespace, "chat", rollout=rollout))
    services.ready(kube, namespace, "chat")
    stable = until_listed(kube, namespace, "chat")["chat"]["revisions"][0]["name"]
    kube.apply(routed(namespace, "chat", rollout=rollout, simulator={"alpha": "9ms"}))

    def weights(*expected: int) -> list[str]:
        found: list[str] = kube.until(
            "ConfigMap",
            namespace,
            lambda items: (
                tuple(each["weight"] for each in listed(items[0])["chat"]["revisions"]) == expected
                and [each["name"] for each in listed(items[0])["chat"]["revisions"]]
            ),
            name=NAME,
            timeout=SOON,
        )
        return found

    def phase(expected: str | None) -> None:
        kube.until(
            "InferenceService",
            namespace,
            lambda items: (
                items[0]["status"].get("revisions", [{}])[-1].get("phase") == expected
                and is_true(items[0], "Ready")
            ),
            name="chat",
            timeout=SOON,
        )

    def command(name: str, revision: str) -> None:
        annotation = {f"slipstream.dev/{name}": revision}
        kube.patch("InferenceService", namespace, "chat", {"metadata": {"annotations": annotation}})

    assert weights(90, 10)[0] == stable
    phase("Comparing")
    command("abort", stable)  # another revision, so it has no effect
    canary = weights(90, 10)[1]
    command("abort", canary)
    assert weights(100) == [stable]
    phase("Rejected")
    shown = commands.run(kube, "rollout", "status", "chat", "-n", namespace)
    assert "RolloutAborted: " in shown
    command("retry", canary)
    assert weights(90, 10)[1] == canary
    phase("Comparing")
    commands.run(kube, "rollout", "promote", "chat", "-n", namespace)
    assert weights(100) == [canary]
    phase(None)
    kube.until("Deployment", namespace, lambda items: not items, name=stable, timeout=SOON)


def test_an_invalid_change_leaves_the_service_where_it_is(kube: Kube, namespace: str) -> None:
    kube.apply(routed(namespace, "chat"))
    services.ready(kube, namespace, "chat")
    before = until_listed(kube, namespace, "chat")
    kube.apply(routed(namespace, "chat", accelerator={"type": "abacus"}))
    kube.until(
        "InferenceService",
        namespace,
        lambda items: condition(items[0], "Accepted").get("status") == "False",
        name="chat",
        timeout=SOON,
    )
    assert until_listed(kube, namespace, "chat") == before


def test_to_the_router_the_service_moves_once_the_router_is_available(
    kube: Kube, namespace: str
) -> None:
    kube.apply(services.simulated(namespace, "chat"))
    services.ready(kube, namespace, "chat")
    assert "slipstream.dev/revision" in selector(kube, namespace)
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "no-more-pods", "namespace": namespace},
        "spec": {"hard": {"pods": "1"}},
    }
    kube.kubectl("apply", "-f", "-", stdin=json.dumps(quota))
    kube.until(
        "InferenceService", namespace, lambda items: is_true(items[0], "Ready"), name="chat",
        timeout=SOON,
    )  # fmt: skip
    kube.apply(routed(namespace, "chat"))
    waiting = kube.until(
        "InferenceService",
        namespace,
        lambda items: (
            condition(items[0], "Reconciling").get("reason") == "RouterNotReady" and items[0]
        ),
        name="chat",
        timeout=SOON,
    )
    assert is_true(waiting, "Available")
    assert "slipstream.dev/revision" in selector(kube, namespace)
    kube.kubectl("delete", "resourcequota", "no-more-pods", "-n", namespace)
    kube.until(
        "Service",
        namespace,
        lambda items: items[0]["spec"]["selector"] == ROUTER,
        name="chat",
        timeout=GONE,
    )
    services.ready(kube, namespace, "chat")


def test_past_the_router_the_service_selects_engines_and_the_router_stays_a_while(
    kube: Kube, namespace: str
) -> None:
    kube.apply(routed(namespace, "chat"))
    services.ready(kube, namespace, "chat")
    assert selector(kube, namespace) == ROUTER
    kube.apply(services.simulated(namespace, "chat"))
    kube.until(
        "Service",
        namespace,
        lambda items: "slipstream.dev/revision" in items[0]["spec"]["selector"],
        name="chat",
        timeout=SOON,
    )
    assert "chat" in until_listed(kube, namespace, "chat")


IDLE = {"minReplicas": 0, "idleAfter": "10m", "maxReplicas": 2}


def test_a_service_that_may_be_at_zero_shows_once_that_it_works_and_has_a_lease(
    kube: Kube, namespace: str
) -> None:
    kube.apply(routed(namespace, "chat", scaling=IDLE))
    services.ready(kube, namespace, "chat")
    assert kube.get("Lease", namespace, "chat-activation") is not None
    assert until_listed(kube, namespace, "chat")["chat"]["activation"] == "chat-activation"


def asleep(service: Object) -> dict[str, Any]:
    """The state that an operator keeps of a service that is at zero."""
    metadata = service["metadata"]
    state = {"desired": 0, "reason": "nobody asked for 10m", "since": 1.0}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": f"{metadata['name']}-state",
            "namespace": metadata["namespace"],
            "labels": {
                "app.kubernetes.io/managed-by": "slipstream-operator",
                "slipstream.dev/service": metadata["name"],
            },
            "ownerReferences": [
                {
                    "apiVersion": service["apiVersion"],
                    "kind": service["kind"],
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                    "controller": True,
                }
            ],
        },
        "data": {"scaling.json": json.dumps(state)},
    }


def test_a_service_stays_at_zero_over_a_restart_until_the_router_asks(
    kube: Kube, namespace: str
) -> None:
    operators(kube, 0)
    try:
        service = kube.apply(routed(namespace, "chat", scaling=IDLE))
        kube.apply(asleep(service))
    finally:
        operators(kube, 2)
    resting = kube.until(
        "InferenceService",
        namespace,
        lambda items: condition(items[0], "Available").get("reason") == "ScaledToZero" and items[0],
        name="chat",
        timeout=GONE,
    )
    assert is_true(resting, "Ready")
    assert not kube.find("Pod", namespace, labelSelector="slipstream.dev/service=chat")
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
    kube.kubectl(
        "patch", "lease", "chat-activation", "-n", namespace, "--type=merge",
        f"--as=system:serviceaccount:{namespace}:{NAME}",
        "-p", json.dumps({"spec": {"renewTime": now.replace("+00:00", "Z")}}),
    )  # fmt: skip
    kube.until(
        "InferenceService",
        namespace,
        lambda items: condition(items[0], "Available").get("reason") == "EnginesReady",
        name="chat",
        timeout=SOON,
    )


def test_a_route_is_told_to_the_router_and_heals_when_its_services_come(
    kube: Kube, namespace: str
) -> None:
    route = {
        "apiVersion": "slipstream.dev/v1alpha1",
        "kind": "InferenceRoute",
        "metadata": {"name": "split", "namespace": namespace},
        "spec": {"model": "public", "backends": [{"service": "one"}, {"service": "two"}]},
    }
    kube.apply(routed(namespace, "one"))
    until_listed(kube, namespace, "one")
    kube.apply(route)
    waiting = kube.until(
        "InferenceRoute",
        namespace,
        lambda items: (
            condition(items[0], "Accepted").get("reason") == "BackendNotFound" and items[0]
        ),
        name="split",
        timeout=SOON,
    )
    assert (
        'spec.backends[1].service: "two" is not an InferenceService in this namespace. Create it'
        in condition(waiting, "Accepted")["message"]
    )
    kube.apply(routed(namespace, "two"))
    ready = kube.until(
        "InferenceRoute",
        namespace,
        lambda items: is_true(items[0], "Ready") and items[0],
        name="split",
        timeout=SOON,
    )
    assert ready["status"]["url"] == f"http://{NAME}.{namespace}.svc/v1"
    found = kube.get("ConfigMap", namespace, NAME)
    assert found is not None
    (entry,) = json.loads(found["data"]["router.json"])["routes"]
    assert entry == {
        "name": "split",
        "model": "public",
        "backends": [{"service": "one", "weight": 1}, {"service": "two", "weight": 1}],
    }
    assert ready["spec"] == kube.get("InferenceRoute", namespace, "split")["spec"]  # type: ignore[index]
