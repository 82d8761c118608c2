"""spec.template of a ModelBuild: mirrors, proxies, certificates and identities, with the rights of services."""

from typing import Any

import pytest

from slipstream_operator.core.render import build as rendering
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from slipstream_runtime import contract
from tests.support import modelbuilds

SECRET = {"secretKeyRef": {"name": "db", "key": "password"}}
WHOLE = {
    "labels": {"team": "chat", "app": "mine"},
    "annotations": {"example.com/owner": "chat"},
    "env": [
        {"name": "HF_ENDPOINT", "value": "https://hub.example.com"},
        {"name": "SSL_CERT_FILE", "value": "/mnt/authorities/ca.crt"},
        {"name": "AWS_REGION", "valueFrom": SECRET},
    ],
    "volumes": [{"name": "authorities", "configMap": {"name": "company-ca"}}],
    "volumeMounts": [
        {"name": "authorities", "mountPath": "/mnt/authorities", "readOnly": True},
    ],
    "serviceAccountName": "builder",
}
RIGHTS = {"template": {"allow": ["env.HF_ENDPOINT", "label.app"]}}


def _pod_template(own: dict[str, Any] | None, **profile: Any) -> dict[str, Any]:
    spec = {
        **modelbuilds.SPEC,
        "output": {"uri": "oci://registry/small:1", "pushSecret": {"name": "registry"}},
        "tokenSecret": {"name": "hub", "key": "token"},
    }
    if own is not None:
        spec["template"] = own
    build = modelbuilds.resolved(spec, sources={"allow": ["*"]}, **profile)
    (job,) = (child for child in rendering.render(build) if child["kind"] == "Job")
    found: dict[str, Any] = job["spec"]["template"]
    return found


def _refusal(spec: dict[str, Any], **profile: Any) -> PermanentError:
    with pytest.raises(PermanentError) as refused:
        modelbuilds.resolved({**modelbuilds.SPEC, **spec}, **profile)
    return refused.value


def test_every_stage_gets_it_besides_what_the_operator_sets() -> None:
    plain, given = _pod_template(None), _pod_template(WHOLE, **RIGHTS)
    assert given["metadata"]["labels"] == {
        "team": "chat",
        "app": "mine",
        **plain["metadata"]["labels"],
    }
    assert given["metadata"]["annotations"] == WHOLE["annotations"]
    assert given["spec"]["serviceAccountName"] == "builder"
    assert given["spec"]["automountServiceAccountToken"] is False
    assert given["spec"]["volumes"] == [*plain["spec"]["volumes"], *WHOLE["volumes"]]
    for before, after in zip(
        [*plain["spec"]["initContainers"], *plain["spec"]["containers"]],
        [*given["spec"]["initContainers"], *given["spec"]["containers"]],
        strict=True,
    ):
        assert after["env"] == [*before["env"], *WHOLE["env"]]
        assert after["volumeMounts"] == [*before["volumeMounts"], *WHOLE["volumeMounts"]]
        assert after["securityContext"] == before["securityContext"]


@pytest.mark.parametrize("name", ["HF_ENDPOINT", "HTTPS_PROXY", "LD_PRELOAD", "PYTHONPATH"])
def test_a_variable_that_services_need_a_right_for_needs_it_in_builds(name: str) -> None:
    template = {"template": {"env": [{"name": name, "value": "x"}]}}
    refusal = _refusal(template)
    assert refusal.reason == Reason.NOT_ALLOWED
    assert f'spec.template.env: "{name}"' in refusal.message
    assert f"add env.{name} to template.allow" in refusal.message
    allowed = {"allow": [f"env.{name}"]}
    assert modelbuilds.resolved({**modelbuilds.SPEC, **template}, template=allowed)


def test_a_label_of_other_services_needs_a_right() -> None:
    refusal = _refusal({"template": {"labels": {"app": "shop"}}})
    assert refusal.reason == Reason.NOT_ALLOWED
    assert 'add "label.app" to template.allow' in refusal.message


def _volume(**source: Any) -> dict[str, Any]:
    return {"template": {"volumes": [{"name": "v", **source}]}}


IDENTITY = {"sources": [{"serviceAccountToken": {"path": "token"}}]}
LISTED = [
    ({"template": {"env": [{"name": "A", "valueFrom": SECRET}]}}, "secrets", "env[A].valueFrom.secretKeyRef.name"),
    (_volume(secret={"secretName": "db"}), "secrets", "volumes[v].secret.secretName"),
    (_volume(projected={"sources": [{"secret": {"name": "db"}}]}), "secrets", "volumes[v].projected.sources.secret"),
    (_volume(csi={"driver": "d", "nodePublishSecretRef": {"name": "db"}}), "secrets", "volumes[v].csi"),
    ({"template": {"serviceAccountName": "db"}}, "serviceAccounts", "serviceAccountName"),
    (_volume(projected=IDENTITY), "serviceAccounts", "volumes[v].projected"),
    (_volume(image={"reference": "registry/stranger:1"}), "images", "volumes[v].image.reference"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "kind", "field"), LISTED, ids=[field for *_, field in LISTED])
def test_the_lists_of_the_profile_bound_builds(spec: dict[str, Any], kind: str, field: str) -> None:
    lists = {"allow": ["none"]}
    profile = {kind: {**modelbuilds.IMAGES, **lists} if kind == "images" else lists}
    refusal = _refusal(spec, **profile)
    assert refusal.reason == Reason.NOT_ALLOWED
    assert refusal.message.startswith(f"spec.template.{field}")
    assert f"extend {kind}.allow" in refusal.message
    assert modelbuilds.resolved({**modelbuilds.SPEC, **spec})


TOKEN = {"tokenSecret": {"name": "hub", "key": "token"}}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        *(
            ({"template": {"env": [{"name": name, "value": "x"}]}}, f'"{name}" is set by')
            for name in ("HOME", "TMPDIR", "HF_HOME", "DOCKER_CONFIG", "SLIPSTREAM_X")
        ),
        (
            {**TOKEN, "template": {"env": [{"name": "HF_TOKEN", "value": "x"}]}},
            "or leave out spec.tokenSecret",
        ),
        *(
            ({"template": {"volumes": [{"name": name, "emptyDir": {}}]}}, "volume of the operator")
            for name in ("work", "registry", "dataset-0", "claim-0", "scratch")
        ),
        *(
            (
                {
                    "template": {
                        "volumes": [{"name": "v", "emptyDir": {}}],
                        "volumeMounts": [{"name": "v", "mountPath": path}],
                    }
                },
                "which the build uses",
            )
            for path in (
                contract.BUILD_DIRECTORY,
                f"{contract.DATASETS_DIRECTORY}/0",
                contract.REGISTRY_DIRECTORY,
                contract.CONFIG_DIRECTORY,
                "/etc",
            )
        ),
        ({"template": {"labels": {"slipstream.dev/build": "other"}}}, "is set by the operator"),
        ({"template": {"serviceAccountName": contract.ROUTER_NAME}}, "the router's alone"),
    ],
)
def test_nothing_of_the_operators_own_is_replaced(spec: dict[str, Any], said: str) -> None:
    refusal = _refusal(spec)
    assert refusal.reason == Reason.INVALID_SPEC
    assert said in refusal.message


def test_a_token_in_a_variable_is_free_without_a_token_secret() -> None:
    template = {"env": [{"name": "HF_TOKEN", "valueFrom": SECRET}]}
    assert modelbuilds.resolved({**modelbuilds.SPEC, "template": template})


def test_the_names_that_the_operator_adds_to_a_build_are_reserved() -> None:
    datasets = {"claim": {"name": "data", "path": "items.jsonl"}}
    quality = {**modelbuilds.SPEC["quality"], "dataset": datasets}
    spec = {
        **modelbuilds.SPEC,
        "source": "oci://registry/model:1",
        "quality": quality,
        "credentials": {"name": "store"},
        "output": {"uri": "oci://registry/small:1", "pushSecret": {"name": "registry"}},
    }
    build = modelbuilds.resolved(spec, sources={"allow": ["*"]})
    (job,) = (child for child in rendering.render(build) if child["kind"] == "Job")
    pod = job["spec"]["template"]["spec"]
    for volume in pod["volumes"]:
        name = volume["name"]
        refusal = _refusal({"template": {"volumes": [{"name": name, "emptyDir": {}}]}})
        assert f'"{name}" is the name of a volume of the operator' in refusal.message
    for mount in pod["initContainers"][0]["volumeMounts"]:
        template = {
            "volumes": [{"name": "v", "emptyDir": {}}],
            "volumeMounts": [{"name": "v", "mountPath": mount["mountPath"]}],
        }
        assert "overlaps" in _refusal({"template": template}).message
    for variable in pod["containers"][0]["env"]:
        env = [{"name": variable["name"], "value": "x"}]
        assert "is set by the operator" in _refusal({"template": {"env": env}}).message
