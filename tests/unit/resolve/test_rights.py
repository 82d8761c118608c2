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
