"""Devices by dynamic resource allocation: a claim for each pod, from a template of the revision."""

from typing import Any

from slipstream_operator.core import plan, render, resolve, revisions
from tests.support import given

CLAIMED = given.profile(
    accelerators=[{"name": "gpu", "deviceClass": "gpu.nvidia.com", "memory": "79Gi"}]
)
PLUGIN = given.profile(accelerators=[{"name": "gpu", "resourceName": "nvidia.com/gpu"}])


def rendered(**spec: Any) -> list[dict[str, Any]]:
    return given.rendered(given.observed({"model": given.MODEL, **spec}, profiles=[CLAIMED]))


def test_each_pod_claims_as_many_devices_as_a_replica_has():
    children = rendered(accelerator={"count": 4})
    template = given.find(children, "ResourceClaimTemplate")
    assert template["apiVersion"] == "resource.k8s.io/v1"
    assert template["spec"]["spec"]["devices"]["requests"] == [
        {
            "name": "accelerators",
            "exactly": {
                "deviceClassName": "gpu.nvidia.com",
                "allocationMode": "ExactCount",
                "count": 4,
            },
        }
    ]
    workload = given.find(children, "Deployment")
    pod = workload["spec"]["template"]["spec"]
    assert template["metadata"]["name"] == workload["metadata"]["name"]
    assert pod["resourceClaims"] == [
        {
            "name": "accelerators",
            "resourceClaimTemplateName": template["metadata"]["name"],
        }
    ]
    (engine,) = pod["containers"]
    assert engine["resources"]["claims"] == [{"name": "accelerators"}]
    assert set(engine["resources"]["limits"]) == {"memory"}
    assert engine["resources"]["requests"].keys() == {"cpu", "memory", "ephemeral-storage"}


def test_the_template_comes_before_the_pods_that_need_it():
    kinds = [manifest["kind"] for manifest in rendered()]
    assert kinds.index("ResourceClaimTemplate") < kinds.index("Deployment")


def test_pods_of_a_group_claim_their_share():
    snapshot = given.observed(
        {"model": given.MODEL, "parallelism": {"tensor": 4, "pipeline": 2, "nodes": 2}},
        profiles=[CLAIMED],
        leader_worker_sets=True,
    )
    template = given.find(given.rendered(snapshot), "ResourceClaimTemplate")
    (request,) = template["spec"]["spec"]["devices"]["requests"]
    assert request["exactly"]["count"] == 4


def test_a_device_plugin_needs_no_claim():
    snapshot = given.observed(profiles=[PLUGIN])
    assert "ResourceClaimTemplate" not in {item["kind"] for item in given.rendered(snapshot)}


def test_the_template_of_an_old_revision_is_kept_while_that_serves():
    before = given.realised(given.observed(profiles=[CLAIMED]))
    old = given.identity(profiles=[CLAIMED])
    after = given.observed(
        {"model": given.MODEL, "accelerator": {"count": 2}},
        profiles=[PLUGIN],
        children=before.children,
        pods=given.pods(old, 1),
    )
    decided = resolve.resolve(after)
    rollout = revisions.roll_out(after, decided, replicas=1, now=given.MOMENT)
    children = render.render(after, decided, rollout, state={})
    template = given.find(children, "ResourceClaimTemplate")
    assert template["metadata"]["name"] == f"chat-{old}"
    steps = plan.plan(
        children,
        children=after.children,
        is_ours=plan.controlled_by(given.UID),
        kept_revisions={revision.hash for revision in rollout.revisions},
    )
    assert "ResourceClaimTemplate" not in {step.ref.kind for step in steps.deletes}


def test_claiming_devices_makes_another_revision():
    assert given.identity(profiles=[CLAIMED]) != given.identity(profiles=[PLUGIN])
