"""Pods and the operator's manifest without a user meet the restricted Pod Security Standard on a real API server."""

import yaml

from dev import paths
from dev.cluster.kube import Kube
from slipstream_operator.core.render import gateway
from tests.support import given

PROFILE = given.profile(users="Assigned")
GATEWAY = {
    "model": given.MODEL,
    "routing": {"mode": "Gateway", "gateway": {"name": "inference"}},
}


def test_pods_that_name_no_user_are_admitted(kube: Kube, namespace: str) -> None:
    manifests = [
        *given.rendered(given.observed({"model": given.MODEL}, profiles=[PROFILE])),
        *gateway.render(given.resolved(GATEWAY, profiles=[PROFILE]), active="r"),
    ]
    templates = [
        manifest["spec"]["template"]["spec"]
        for manifest in manifests
        if manifest["kind"] == "Deployment"
    ]
    assert len(templates) == 2
    account = {"name": "pods", "namespace": namespace}
    kube.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
    for number, template in enumerate(templates):
        assert "runAsUser" not in template["securityContext"]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"pod-{number}", "namespace": namespace},
            "spec": {**template, "serviceAccountName": "pods"},
        }
        kube.kubectl("create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(pod))


def test_the_operator_of_the_openshift_overlay_names_no_user(kube: Kube) -> None:
    overlay = paths.REPOSITORY / "manifests/overlays/openshift"
    manifests = list(yaml.safe_load_all(kube.kubectl("kustomize", str(overlay))))
    deployment = given.find(manifests, "Deployment")
    context = deployment["spec"]["template"]["spec"]["securityContext"]
    assert context == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
