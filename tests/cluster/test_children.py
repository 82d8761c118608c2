"""What the operator makes of an object, keeps in order, and removes."""

import json
from typing import Any

import pytest

from dev.cluster.kube import Kube, Object, condition
from slipstream_operator import kinds
from tests.support import services

CHILD_KINDS = [kind.name for kind in kinds.OWNED if not kind.optional]
OWN = "slipstream.dev/service={}"
SOON = 20.0
REPAIR = 5.0
GONE = 60.0
"""The garbage collector pauses while kinds come and go."""


def children(kube: Kube, namespace: str, name: str) -> dict[tuple[str, str], Object]:
    return {
        (kind, item["metadata"]["name"]): item
        for kind in CHILD_KINDS
        for item in kube.find(kind, namespace, labelSelector=OWN.format(name))
    }


def revision_of(kube: Kube, namespace: str, name: str) -> str:
    service = kube.get("Service", namespace, name)
    assert service is not None
    selected: str = service["spec"]["selector"]["slipstream.dev/revision"]
    return selected


def test_one_object_becomes_a_revision_and_what_surrounds_it(kube: Kube, namespace: str) -> None:
    kube.apply(services.simulated(namespace, "chat", scaling={"maxReplicas": 2}))
    services.ready(kube, namespace, "chat")
    revision = revision_of(kube, namespace, "chat")
    assert set(children(kube, namespace, "chat")) == {
        ("Deployment", f"chat-{revision}"),
        ("Service", "chat"),
        ("Service", f"chat-{revision}"),
        ("ConfigMap", f"chat-{revision}"),
        ("ConfigMap", "chat-state"),
        ("NetworkPolicy", "chat"),
        ("PodDisruptionBudget", "chat"),
    }
    assert children(kube, namespace, "chat")["ConfigMap", f"chat-{revision}"]["immutable"] is True


def test_the_users_object_changes_in_status_only(kube: Kube, namespace: str) -> None:
    before = kube.apply(services.simulated(namespace, "chat"))
    after = services.ready(kube, namespace, "chat")
    assert after["spec"] == before["spec"]
    volatile = ("resourceVersion", "managedFields")
    kept = [
        {key: value for key, value in item["metadata"].items() if key not in volatile}
        for item in (before, after)
    ]
    assert kept[0] == kept[1]


def test_printed_columns_are_those_of_the_contract(kube: Kube, namespace: str) -> None:
    kube.apply(services.simulated(namespace, "chat", slo={"ttft": {"p95": "500ms"}}))
    services.ready(kube, namespace, "chat")
    header, row = kube.kubectl("get", "infer", "-n", namespace).splitlines()
    assert header.split() == [
        "NAME",
        "READY",
        "REPLICAS",
        "DESIRED",
        "TTFT",
        "TPOT",
        "SLO",
        "URL",
        "AGE",
    ]
    assert row.split()[:4] == ["chat", "True", "1", "1"]
    assert f"http://chat.{namespace}.svc/v1" in row


def test_kubectl_scale_sets_the_count_of_a_service_without_scaling(
    kube: Kube, namespace: str
) -> None:
    kube.apply(services.simulated(namespace, "chat"))
    services.ready(kube, namespace, "chat")
    kube.kubectl("scale", "infer/chat", "-n", namespace, "--replicas=3")
    kube.until(
        "InferenceService",
        namespace,
        lambda items: items[0]["status"].get("readyReplicas") == 3,
        name="chat",
        timeout=SOON,
    )


def test_a_stopped_service_keeps_its_object_and_says_so(kube: Kube, namespace: str) -> None:
    kube.apply(services.simulated(namespace, "chat", replicas=0))
    kube.until(
        "InferenceService",
        namespace,
        lambda items: condition(items[0], "Available").get("reason") == "Stopped",
        name="chat",
        timeout=SOON,
    )


@pytest.mark.parametrize("kind", ["Deployment", "Service", "NetworkPolicy", "ConfigMap"])
def test_a_deleted_child_comes_back(kube: Kube, namespace: str, kind: str) -> None:
    kube.apply(services.simulated(namespace, "chat"))
    services.ready(kube, namespace, "chat")
    (name, old), *_ = [
        (name, item["metadata"]["uid"])
        for (found, name), item in children(kube, namespace, "chat").items()
        if found == kind
    ]
    kube.delete(kind, namespace, name)
    kube.until(
        kind,
        namespace,
        lambda items: any(item["metadata"]["uid"] != old for item in items),
        name=name,
        timeout=REPAIR,
    )


def test_an_edited_child_is_repaired_and_what_others_added_is_left(
    kube: Kube, namespace: str
) -> None:
    kube.apply(services.simulated(namespace, "chat"))
    services.ready(kube, namespace, "chat")
    name = f"chat-{revision_of(kube, namespace, 'chat')}"
    kube.patch(
        "Deployment",
        namespace,
        name,
        {"metadata": {"annotations": {"example.com/mine": "stays"}}, "spec": {"replicas": 5}},
    )
    deployment = kube.until(
        "Deployment",
        namespace,
        lambda items: items[0]["spec"]["replicas"] == 1 and items[0],
        name=name,
        timeout=REPAIR,
    )
    assert deployment["metadata"]["annotations"]["example.com/mine"] == "stays"


def test_an_injected_sidecar_is_left_alone(kube: Kube, namespace: str) -> None:
    kube.apply(services.simulated(namespace, "chat"))
    services.ready(kube, namespace, "chat")
    name = f"chat-{revision_of(kube, namespace, 'chat')}"
    deployment = kube.get("Deployment", namespace, name)
    assert deployment is not None
    sidecar = {
        "name": "proxy",
        "image": "example.com/proxy:1",
        "securityContext": deployment["spec"]["template"]["spec"]["containers"][0][
            "securityContext"
        ],
    }
    kube.kubectl(
        "patch", "deployment", name, "-n", namespace, "--type=strategic", "-p",
        json.dumps({"spec": {"template": {"spec": {"containers": [sidecar]}}}}),
    )  # fmt: skip
    kube.apply(services.simulated(namespace, "chat", replicas=2))
    kube.until(
        "Deployment",
        namespace,
        lambda items: items[0]["spec"]["replicas"] == 2,
        name=name,
        timeout=SOON,
    )
    after = kube.get("Deployment", namespace, name)
    assert after is not None
    assert {entry["name"] for entry in after["spec"]["template"]["spec"]["containers"]} == {
        "engine",
        "proxy",
    }


def test_a_strangers_service_is_never_adopted_and_the_object_heals_when_it_goes(
    kube: Kube, namespace: str
) -> None:
    theirs = kube.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "chat", "namespace": namespace},
            "spec": {"selector": {"app": "theirs"}, "ports": [{"port": 80}]},
        }
    )
    kube.apply(services.simulated(namespace, "chat"))
    held = kube.until(
        "InferenceService",
        namespace,
        lambda items: condition(items[0], "Available").get("reason") == "NameConflict" and items[0],
        name="chat",
        timeout=SOON,
    )
    assert (
        "Service chat already exists and belongs to another owner"
        in condition(held, "Available")["message"]
    )
    now = kube.get("Service", namespace, "chat")
    assert now is not None
    assert now["spec"] == theirs["spec"]
    assert now["metadata"]["managedFields"] == theirs["metadata"]["managedFields"]
    kube.delete("InferenceService", namespace, "chat")
    kube.until(
        "Deployment", namespace, lambda items: not items, timeout=GONE, labels=OWN.format("chat")
    )
    assert kube.get("Service", namespace, "chat") is not None
    kube.apply(services.simulated(namespace, "chat"))
    kube.delete("Service", namespace, "chat")
    services.ready(kube, namespace, "chat")


def test_deleting_the_object_removes_everything(kube: Kube, namespace: str) -> None:
    kube.apply(services.simulated(namespace, "chat"))
    services.ready(kube, namespace, "chat")
    kube.delete("InferenceService", namespace, "chat")
    for kind in (*CHILD_KINDS, "Pod"):
        kube.until(
            kind, namespace, lambda items: not items, timeout=GONE, labels=OWN.format("chat")
        )


def test_what_argo_cd_writes_on_the_object_reaches_no_child(kube: Kube, namespace: str) -> None:
    manifest: dict[str, Any] = services.simulated(namespace, "chat")
    manifest["metadata"] |= {
        "labels": {"app.kubernetes.io/instance": "an-app", "team": "a"},
        "annotations": {
            "argocd.argoproj.io/tracking-id": "an-app:slipstream.dev/InferenceService:x"
        },
    }
    kube.apply(manifest)
    services.ready(kube, namespace, "chat")
    everything = [*children(kube, namespace, "chat").values(), *kube.find("Pod", namespace)]
    text = json.dumps([item["metadata"] for item in everything])
    assert "an-app" not in text
    assert '"team"' not in text


def test_a_changed_engine_makes_a_second_revision_and_the_first_serves_until_it_is_ready(
    kube: Kube, namespace: str
) -> None:
    kube.apply(services.simulated(namespace, "chat"))
    services.ready(kube, namespace, "chat")
    first = revision_of(kube, namespace, "chat")
    kube.apply(services.simulated(namespace, "chat", simulator={"alpha": "9ms"}))
    kube.until(
        "Service",
        namespace,
        lambda items: items[0]["spec"]["selector"]["slipstream.dev/revision"] != first,
        name="chat",
        timeout=SOON,
    )
    kube.until(
        "Deployment",
        namespace,
        lambda items: (
            {item["metadata"]["name"] for item in items}
            == {f"chat-{revision_of(kube, namespace, 'chat')}"}
        ),
        labels=OWN.format("chat"),
        timeout=SOON,
    )


def test_a_change_that_cannot_work_leaves_what_serves_alone(kube: Kube, namespace: str) -> None:
    kube.apply(services.simulated(namespace, "chat"))
    services.ready(kube, namespace, "chat")
    before = {
        ref: item["metadata"]["uid"] for ref, item in children(kube, namespace, "chat").items()
    }
    kube.apply(services.simulated(namespace, "chat", accelerator={"type": "abacus"}))
    refused = kube.until(
        "InferenceService",
        namespace,
        lambda items: condition(items[0], "Accepted").get("status") == "False" and items[0],
        name="chat",
        timeout=SOON,
    )
    assert condition(refused, "Accepted")["reason"] == "UnknownAccelerator"
    assert (
        '"abacus" is not an accelerator of ServingProfile local. Use one of cpu.'
        in (condition(refused, "Accepted")["message"])
    )
    assert condition(refused, "Available")["status"] == "True"
    assert condition(refused, "Stalled")["status"] == "True"
    after = {
        ref: item["metadata"]["uid"] for ref, item in children(kube, namespace, "chat").items()
    }
    assert after == before


def test_two_services_cannot_claim_one_model_name(kube: Kube, namespace: str) -> None:
    kube.apply(services.simulated(namespace, "chat"))
    services.ready(kube, namespace, "chat")
    rival = {
        "apiVersion": "slipstream.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": "rival", "namespace": namespace},
        "spec": {"model": {"uri": "file:///models/target", "name": "chat"}},
    }
    kube.apply(rival)
    kube.until(
        "InferenceService",
        namespace,
        lambda items: condition(items[0], "Accepted").get("reason") == "NameTaken",
        name="rival",
        timeout=SOON,
    )
    kube.delete("InferenceService", namespace, "chat")
    kube.until(
        "InferenceService",
        namespace,
        lambda items: condition(items[0], "Accepted").get("status") == "True",
        name="rival",
        timeout=SOON,
    )


def test_events_tell_transitions(kube: Kube, namespace: str) -> None:
    kube.apply(services.simulated(namespace, "chat"))
    services.ready(kube, namespace, "chat")
    told = kube.until(
        "Event",
        namespace,
        lambda items: (
            "EnginesReady"
            in {item["reason"] for item in items if item["regarding"]["name"] == "chat"}
            and items
        ),
        timeout=SOON,
    )
    ours = [item["note"] for item in told if item["regarding"]["name"] == "chat"]
    assert len(ours) == len(set(ours))
