"""A right to InferenceServices is no right to nodes, other Services, or priorities of the cluster."""

from typing import Any

import pytest

from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from tests.support import given

REACHING = [
    ({"template": {"priorityClassName": "system-node-critical"}}, "priorityClass.system-node-critical"),
    ({"template": {"tolerations": [{"operator": "Exists"}]}}, "toleration.*"),
    (
        {"template": {"tolerations": [{"key": "node-role.kubernetes.io/control-plane"}]}},
        "toleration.node-role.kubernetes.io/control-plane",
    ),
    ({"template": {"labels": {"app": "payments"}}}, "label.app"),
    ({"template": {"labels": {"k8s-app": "kube-dns"}}}, "label.k8s-app"),
    ({"template": {"labels": {"run": "payments"}}}, "label.run"),
    ({"resources": {"limits": {"devices.kubevirt.io/kvm": "1"}}}, "resource.devices.kubevirt.io/kvm"),
    (
        {"template": {"initContainers": [
            {"name": "a", "image": "b", "resources": {"limits": {"example.com/fuse": "1"}}}]}},
        "resource.example.com/fuse",
    ),
    ({"cache": {"model": {"hostPath": {"path": "/etc"}}}}, "hostPath./etc"),
    ({"cache": {"model": {"hostPath": {"path": "/models/../etc"}}}}, "hostPath./etc"),
    ({"cache": {"model": {"hostPath": {"path": "//etc"}}}}, "hostPath./etc"),
    ({"cache": {"model": {"hostPath": {"path": "/modelsofothers"}}}}, "hostPath./modelsofothers"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "entry"), REACHING, ids=[entry for _, entry in REACHING])
def test_what_reaches_beyond_the_namespace_needs_the_profile(
    spec: dict[str, Any], entry: str
) -> None:
    asked = {"model": given.MODEL, **spec}
    with pytest.raises(PermanentError) as refusal:
        given.resolved(asked)
    assert refusal.value.reason == Reason.NOT_ALLOWED
    assert refusal.value.message.startswith("spec.")
    assert f'add "{entry}" to template.allow' in refusal.value.message
    given.resolved(asked, profiles=[given.profile(template={"allow": [entry]})])


@pytest.mark.parametrize(
    "spec",
    [
        {"template": {"priorityClassName": "high"}},
        {"template": {"tolerations": [{"key": "dedicated", "operator": "Exists"}]}},
        {"template": {"labels": {"team": "a", "app.kubernetes.io/instance": "b"}}},
        {"cache": {"model": {"hostPath": {"path": "/var/lib/slipstream/models"}}}},
        {"template": {"image": "busybox"}},
        {
            "resources": {
                "limits": {"cpu": "2", "hugepages-2Mi": "2Mi"},
                "requests": {"hugepages-2Mi": "2Mi"},
            }
        },
        {"resources": {"limits": {"rdma/hca_shared": "1", "vpc.amazonaws.com/efa": "1"}}},
    ],
)
def test_what_stays_in_the_namespace_needs_no_right(spec: dict[str, Any]) -> None:
    given.resolved({"model": given.MODEL, **spec})


@pytest.mark.parametrize(
    ("template", "field"),
    [
        ({"image": "evil/image"}, "spec.template.image"),
        (
            {"initContainers": [{"name": "a", "image": "evil/image"}]},
            "spec.template.initContainers[a].image",
        ),
        (
            {"volumes": [{"name": "v", "image": {"reference": "evil/image"}}]},
            "spec.template.volumes[v].image.reference",
        ),
    ],
)
def test_the_profile_bounds_the_images(template: dict[str, Any], field: str) -> None:
    def profile(*allowed: str) -> dict[str, Any]:
        images = given.PROFILE["images"]
        return {"profiles": [given.profile(images={**images, "allow": list(allowed)})]}

    spec = {"model": given.MODEL, "template": template}
    with pytest.raises(PermanentError) as refusal:
        given.resolved(spec, **profile("ghcr.io/team/*"))
    assert refusal.value.reason == Reason.NOT_ALLOWED
    assert refusal.value.message.startswith(f'{field}: "evil/image" matches none of the images')
    given.resolved(spec, **profile("evil/*"))


def test_resources_that_the_accelerator_has_need_no_right() -> None:
    gpu = {
        "name": "gpu",
        "resourceName": "nvidia.com/gpu",
        "resources": {"limits": {"example.com/fuse": "1"}},
    }
    resources = {"limits": {"example.com/fuse": "2"}}
    profile = given.profile(accelerators=[gpu], without=["defaultAccelerator"])
    given.resolved({"model": given.MODEL, "resources": resources}, profiles=[profile])


def secret(name: str = "db") -> dict[str, Any]:
    return {"secretKeyRef": {"name": name, "key": "password"}}


NAMING = [
    ({"model": {**given.MODEL, "tokenSecret": {"name": "db", "key": "k"}}}, "spec.model.tokenSecret.name"),
    ({"model": {"uri": "s3://bucket/folder", "credentials": {"name": "db"}}}, "spec.model.credentials.name"),
    ({"routing": {"apiKeys": {"name": "db"}}}, "spec.routing.apiKeys.name"),
    ({"template": {"imagePullSecrets": [{"name": "db"}]}}, "spec.template.imagePullSecrets"),
    (
        {"template": {"env": [{"name": "A", "valueFrom": secret()}]}},
        "spec.template.env[A].valueFrom.secretKeyRef.name",
    ),
    (
        {"template": {"initContainers": [{"name": "a", "image": "b", "env": [{"name": "A", "valueFrom": secret()}]}]}},
        "spec.template.initContainers[a].env[A].valueFrom.secretKeyRef.name",
    ),
    (
        {"template": {"volumes": [{"name": "v", "secret": {"secretName": "db"}}]}},
        "spec.template.volumes[v].secret.secretName",
    ),
    (
        {"template": {"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "db"}}]}}]}},
        "spec.template.volumes[v].projected.sources.secret.name",
    ),
    (
        {"template": {"volumes": [{"name": "v", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "db"}}}]}},
        "spec.template.volumes[v].csi.nodePublishSecretRef.name",
    ),
]  # fmt: skip
SOURCES = {"allow": ["hf://*", "s3://*"]}


@pytest.mark.parametrize(("spec", "field"), NAMING, ids=[field for _, field in NAMING])
def test_the_profile_bounds_the_secrets(spec: dict[str, Any], field: str) -> None:
    asked = {"model": given.MODEL, **spec}
    for allowed in (["hub-*"], []):
        profile = given.profile(secrets={"allow": allowed}, sources=SOURCES)
        with pytest.raises(PermanentError) as refusal:
            given.resolved(asked, profiles=[profile])
        assert refusal.value.reason == Reason.NOT_ALLOWED
        assert refusal.value.message.startswith(f'{field}: "db" matches none of the Secrets that')
        assert "extend secrets.allow." in refusal.value.message
    given.resolved(asked, profiles=[given.profile(secrets={"allow": ["d*"]}, sources=SOURCES)])
    given.resolved(asked, profiles=[given.profile(sources=SOURCES)])


@pytest.mark.parametrize(
    ("template", "field", "account"),
    [
        ({"serviceAccountName": "power"}, "spec.template.serviceAccountName", "power"),
        (
            {"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]},
            "spec.template.volumes[v].projected",
            "default",
        ),
    ],
)  # fmt: skip
def test_the_profile_bounds_the_accounts(
    template: dict[str, Any], field: str, account: str
) -> None:
    def profile(*allowed: str) -> dict[str, Any]:
        return {"profiles": [given.profile(serviceAccounts={"allow": list(allowed)})]}

    asked = {"model": given.MODEL, "template": template}
    with pytest.raises(PermanentError) as refusal:
        given.resolved(asked, **profile("storage"))
    assert refusal.value.reason == Reason.NOT_ALLOWED
    assert refusal.value.message.startswith(f'{field}: "{account}" matches none of')
    given.resolved(asked, **profile("storage", account))
    given.resolved({"model": given.MODEL}, **profile("storage"))
