"""Images that nodes pull before an accelerator of theirs is bound: for whom, by what Job, and how it stands."""

import dataclasses
import json
from typing import Any

import pytest

from slipstream_operator import names
from slipstream_operator.core import plan, prefetching, resolve
from slipstream_operator.core.observed import Child, Fetcher, Observed
from slipstream_operator.core.render import prefetch as render
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from slipstream_runtime import contract
from tests.support import given

URI, DRAFT = "oci://registry.local/m:1", "oci://registry.local/d:1"
GPU: dict[str, Any] = {
    "name": "gpu",
    "resourceName": "nvidia.com/gpu",
    "nodeSelector": {"gpu": "h100"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
    "runtimeClassName": "nvidia",
}
SPEC: dict[str, Any] = {"model": {"uri": URI}, "replicas": 3, "cache": {"prefetch": True}}


def snapshot(spec: dict[str, Any] = SPEC, **fields: Any) -> Observed:
    accelerators = [fields.pop("accelerator", GPU), {"name": "cpu"}]
    profile = given.profile(sources={"allow": ["*"]}, accelerators=accelerators)
    return given.observed(spec, profiles=[profile], leader_worker_sets=True, **fields)


def asked(spec: dict[str, Any] = SPEC, **fields: Any) -> prefetching.Prefetch | None:
    return resolve.resolve(snapshot(spec, **fields)).prefetch


def wanted(spec: dict[str, Any] = SPEC, **fields: Any) -> prefetching.Prefetch:
    found = asked(spec, **fields)
    assert found is not None
    return found


def manifest(found: prefetching.Prefetch) -> dict[str, Any]:
    return render.job(given.KEY, given.UID, prefetch=found)


def pods_of(found: prefetching.Prefetch) -> dict[str, Any]:
    spec: dict[str, Any] = manifest(found)["spec"]["template"]["spec"]
    return spec


def pod(found: prefetching.Prefetch, name: str, **fields: Any) -> Fetcher:
    return dataclasses.replace(
        Fetcher(
            namespace=given.NAMESPACE,
            name=name,
            service=given.NAME,
            task=found.identity,
            phase="Running",
            deleting=False,
            created=given.CREATED,
            address=None,
            report=None,
            trouble=None,
            node=f"node-{name}",
        ),
        **fields,
    )


def job(found: prefetching.Prefetch, **condition: str) -> Child:
    child = given.child(manifest(found))
    status = {"conditions": [{"status": "True", **condition}]} if condition else {}
    return dataclasses.replace(child, status=status)


@pytest.mark.parametrize(
    "change",
    [
        {"cache": {"prefetch": False}},
        {"cache": {}},
        {"replicas": 0},
        {"model": {"uri": "hf://org/model"}},
    ],
)
def test_nothing_is_pulled_ahead_that_is_not_asked_for_or_has_no_node(
    change: dict[str, Any],
) -> None:
    assert asked({**SPEC, **change}) is None


@pytest.mark.parametrize(
    ("change", "count"),
    [
        ({}, 3),
        ({"replicas": 1, "scaling": {"maxReplicas": 5}}, 5),
        ({"replicas": 40}, 16),
        ({"accelerator": {"count": 8}, "parallelism": {"nodes": 2, "tensor": 8}}, 6),
    ],
)
def test_there_is_a_pod_for_each_that_may_serve_up_to_sixteen(
    change: dict[str, Any], count: int
) -> None:
    made = manifest(wanted({**SPEC, **change}))["spec"]
    assert made["completionMode"] == "Indexed"
    assert made["completions"] == made["parallelism"] == count


def test_pods_go_where_engines_go_and_ask_for_no_accelerator() -> None:
    made = pods_of(wanted())
    assert made["nodeSelector"] == GPU["nodeSelector"]
    assert made["tolerations"] == GPU["tolerations"]
    assert made["runtimeClassName"] == "nvidia"
    (container,) = made["containers"]
    assert "nvidia.com/gpu" not in json.dumps(container["resources"])
    assert {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"} in container["env"]


def test_pods_prefer_nodes_without_one_and_never_need_a_node_more() -> None:
    found = wanted()
    made = pods_of(found)
    own = {names.PREFETCH_LABEL: given.NAME, names.TASK_LABEL: found.identity}
    (constraint,) = made["topologySpreadConstraints"]
    assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"
    assert constraint["labelSelector"] == {"matchLabels": own}
    assert list(made["affinity"]["podAntiAffinity"]) == [
        "preferredDuringSchedulingIgnoredDuringExecution"
    ]
    labels = manifest(found)["spec"]["template"]["metadata"]["labels"]
    assert own.items() <= labels.items()
    assert names.SERVICE_LABEL not in labels


def test_a_pod_pulls_the_engine_and_every_image_and_checks_each() -> None:
    draft = {"draft": DRAFT, "tokens": 4}
    made = pods_of(wanted({**SPEC, "speculation": draft}))
    (container,) = made["containers"]
    assert container["image"] == "image/vllm:1"
    images = [volume["image"]["reference"] for volume in made["volumes"] if "image" in volume]
    assert images == ["registry.local/d:1", "registry.local/m:1"]
    assert container["command"][-4:] == ["--model", URI, "--draft", DRAFT]
    places = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {contract.image_directory(URI), contract.image_directory(DRAFT)} <= places


def test_a_draft_alone_may_be_an_image() -> None:
    spec = {"model": {"uri": "hf://org/model"}, "speculation": {"draft": DRAFT, "tokens": 4}}
    made = pods_of(wanted({**SPEC, **spec}))
    assert made["containers"][0]["command"][-2:] == ["--draft", DRAFT]


def test_what_pulls_need_comes_from_the_template_and_nothing_else() -> None:
    nodes = {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [
                {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
            ]
        }
    }
    template = {
        "imagePullSecrets": [{"name": "registry"}],
        "serviceAccountName": "puller",
        "labels": {"team": "a"},
        "affinity": {"nodeAffinity": nodes},
        "env": [{"name": "SECRET", "value": "x"}],
        "priorityClassName": "high",
        "volumes": [{"name": "mine", "emptyDir": {}}],
    }
    made = manifest(wanted({**SPEC, "template": template}))["spec"]["template"]
    assert made["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    assert made["spec"]["serviceAccountName"] == "puller"
    assert made["metadata"]["labels"]["team"] == "a"
    assert made["spec"]["affinity"]["nodeAffinity"] == nodes
    assert "podAntiAffinity" in made["spec"]["affinity"]
    assert not {"SECRET", "priorityClassName", "mine"} & set(json.dumps(made).split('"'))


def test_a_pod_runs_as_the_restricted_standard_asks() -> None:
    made = pods_of(wanted())
    assert made["securityContext"]["runAsNonRoot"] is True
    assert made["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    security = made["containers"][0]["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["allowPrivilegeEscalation"] is False
    assert not [volume for volume in made["volumes"] if "hostPath" in volume]
    assert made["automountServiceAccountToken"] is False


def test_where_only_the_accelerator_names_the_nodes_the_field_is_refused() -> None:
    bare = {"name": "gpu", "resourceName": "nvidia.com/gpu"}
    with pytest.raises(PermanentError) as refusal:
        asked(accelerator=bare)
    assert refusal.value.reason == Reason.UNSUPPORTED
    assert "spec.cache.prefetch: true can't work because" in refusal.value.message
    assert "Set accelerators[].nodeSelector in ServingProfile default" in refusal.value.message
    placed = {**SPEC, "template": {"nodeSelector": {"pool": "gpus"}}}
    assert wanted(placed, accelerator=bare).template["nodeSelector"] == {"pool": "gpus"}
    assert asked({**SPEC, "accelerator": {"type": "cpu"}}, accelerator=bare) is not None


def test_the_revision_is_the_same_with_and_without() -> None:
    profiles = snapshot().profiles
    without = {**SPEC, "cache": {}}
    assert given.identity(SPEC, profiles=profiles) == given.identity(without, profiles=profiles)


def test_the_job_of_a_former_image_goes_and_one_that_is_done_stays() -> None:
    before = given.realised(snapshot())
    kept = plan.plan(
        given.rendered(before),
        children=before.children,
        is_ours=plan.controlled_by(given.UID),
    )
    assert not kept
    now = dataclasses.replace(
        snapshot({**SPEC, "model": {"uri": "oci://registry.local/m:2"}}), children=before.children
    )
    steps = plan.plan(
        given.rendered(now), children=now.children, is_ours=plan.controlled_by(given.UID)
    )
    (made,) = (step.ref for step in steps.applies if step.ref.kind == names.JOB)
    (gone,) = (step.ref for step in steps.deletes if step.ref.kind == names.JOB)
    assert made != gone


def test_names_of_jobs_and_their_pods_are_valid_for_the_longest_service() -> None:
    assert len(f"{names.prefetch_name('a' * 40, '12345678')}-15") <= 63


def test_nodes_are_counted_once_and_trouble_is_named() -> None:
    found = wanted()
    first = pod(found, "a", phase="Succeeded")
    same = pod(found, "b", phase="Succeeded", node="node-a")
    other = pod(found, "c", phase="Succeeded", task="former")
    waits = pod(found, "d", node=None, trouble=(Reason.UNSCHEDULABLE, "0/4 nodes are available"))

    def said(*pods: Fetcher, **condition: str) -> str:
        children = [job(found, **condition)]
        return prefetching.progress(snapshot(children=children, prefetchers=pods), found)

    assert said() == "Prefetch: 0 of 3 nodes have the images."
    assert said(first, same, other) == "Prefetch: 1 of 3 nodes have the images."
    assert said(first, waits) == (
        "Prefetch: 1 of 3 nodes have the images, Unschedulable: 0/4 nodes are available"
    )
    assert said(first, same, type="Complete") == "Prefetch: done on 1 node."
    evicted = pod(found, "e", index="1", phase="Failed", trouble=("Evicted", "Pod e was evicted."))
    assert said(first, evicted) == (
        "Prefetch: 1 of 3 nodes have the images, Evicted: Pod e was evicted."
    )
    replaced = pod(found, "f", index="1", created=given.NOW)
    assert said(first, evicted, replaced) == "Prefetch: 1 of 3 nodes have the images."
    late = {"type": "Failed", "reason": "DeadlineExceeded", "message": "Job was active too long"}
    assert said(first, **late) == (
        "Prefetch: 1 of 3 nodes have the images, DeadlineExceeded: Job was active too long"
    )
