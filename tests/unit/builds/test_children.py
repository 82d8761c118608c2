"""The Job of a build: one pod with a container for each stage, which mounts what the recipe reads, and no more."""

import json
from typing import Any

import pytest

from slipstream_operator.core.render import build as rendering
from slipstream_runtime import contract
from slipstream_runtime.errors import UnsuitableError
from tests.support import modelbuilds

GPU = {"accelerator": {"type": "gpu"}}
ANY = {"allow": ["*"]}


def _children(spec: dict[str, Any] | None = None, **profile: Any) -> dict[str, dict[str, Any]]:
    build = modelbuilds.resolved({**modelbuilds.SPEC, **(spec or {})}, sources=ANY, **profile)
    return {child["kind"]: child for child in rendering.render(build)}


def _pod(spec: dict[str, Any] | None = None, **profile: Any) -> dict[str, Any]:
    found: dict[str, Any] = _children(spec, **profile)["Job"]["spec"]["template"]["spec"]
    return found


def _containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod["initContainers"], *pod["containers"]]


def _mounts(pod: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Mount path -> volume and mount of the first container."""
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = _containers(pod)[0]["volumeMounts"]
    return {one["mountPath"]: {**volumes[one["name"]], **one} for one in mounts}


def test_every_volume_is_mounted_and_every_mount_has_its_volume() -> None:
    spec = {"workspace": {"claim": {"name": "scratch"}}, "source": "oci://registry/model:1"}
    pod = _pod(spec)
    for container in _containers(pod):
        mounted = {one["name"] for one in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_a_source_is_read_only_and_the_claim_of_the_output_is_written() -> None:
    mounts = _mounts(_pod({"source": "pvc://big/model", "output": {"uri": "pvc://small/model"}}))
    assert mounts["/mnt/models/big"]["readOnly"] is True
    assert "readOnly" not in mounts["/mnt/models/small"]


def test_source_output_and_dataset_of_one_claim_share_its_volume() -> None:
    dataset = {"claim": {"name": "all", "path": "items.jsonl"}}
    spec = {
        "source": "pvc://all/model",
        "output": {"uri": "pvc://all/small"},
        "quality": {"dataset": dataset, "metrics": [{"name": "F1"}]},
    }
    pod = _pod(spec)
    claims = [one for one in pod["volumes"] if "persistentVolumeClaim" in one]
    assert [one["persistentVolumeClaim"]["claimName"] for one in claims] == ["all"]
    assert "readOnly" not in _mounts(pod)["/mnt/models/all"]


@pytest.mark.parametrize(
    ("spec", "place", "kept"),
    [
        ({"output": {"uri": "pvc://models/small"}}, "/mnt/models/models", True),
        (
            {"output": {"uri": "s3://bucket/small"}, "workspace": {"claim": {"name": "w"}}},
            contract.BUILD_DIRECTORY,
            True,
        ),
        (
            {"output": {"uri": "pvc://models/small"}, "workspace": {"claim": {"name": "w"}}},
            contract.BUILD_DIRECTORY,
            True,
        ),
        ({"output": {"uri": "s3://bucket/small"}}, contract.BUILD_DIRECTORY, False),
    ],
)
def test_the_working_folder_is_the_builds_own_in_a_claim_if_there_is_one(
    spec: dict[str, Any], place: str, kept: bool
) -> None:
    children = _children(spec)
    recipe = json.loads(children["ConfigMap"]["data"][contract.BUILD_FILE])
    assert recipe["work"] == f"{place}/.slipstream-build-{modelbuilds.UID}"
    mount = _mounts(children["Job"]["spec"]["template"]["spec"])[place]
    assert ("persistentVolumeClaim" in mount) is kept
    assert ("emptyDir" in mount) is not kept


def test_secrets_reach_the_pod_as_references_only() -> None:
    spec = {
        "source": "s3://bucket/model",
        "credentials": {"name": "store"},
        "tokenSecret": {"name": "hub", "key": "token"},
        "output": {"uri": "oci://registry/small:1", "pushSecret": {"name": "registry"}},
        "imagePullSecrets": [{"name": "pull"}],
    }
    pod = _pod(spec)
    assert pod["imagePullSecrets"] == [{"name": "pull"}]
    container = _containers(pod)[0]
    variables = {one["name"]: one for one in container["env"]}
    assert variables["HF_TOKEN"]["valueFrom"] == {"secretKeyRef": {"name": "hub", "key": "token"}}
    mounts = _mounts(pod)
    assert mounts[variables["DOCKER_CONFIG"]["value"]]["secret"]["secretName"] == "registry"
    assert mounts[contract.CREDENTIALS_DIRECTORY]["secret"]["secretName"] == "store"
    assert not {"hub", "store", "registry"} & set(container["command"])


def test_each_stage_is_restricted_and_has_no_token() -> None:
    pod = _pod()
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in _containers(pod):
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert container["command"][-2:] == ["--stage", container["name"]]


def test_a_cluster_that_assigns_users_gets_no_user() -> None:
    assert "runAsUser" not in _pod(users="Assigned")["securityContext"]


def test_the_accelerator_gives_nodes_devices_and_runtime() -> None:
    accelerator = {
        "name": "gpu",
        "resourceName": "nvidia.com/gpu",
        "nodeSelector": {"gpu": "h100"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "runtimeClassName": "nvidia",
        "resources": {"requests": {"memory": "64Gi"}},
    }
    spec = {"accelerator": {"type": "gpu", "count": 2}}
    pod = _pod(spec, accelerators=[accelerator], defaultAccelerator="gpu")
    assert (pod["nodeSelector"], pod["runtimeClassName"]) == ({"gpu": "h100"}, "nvidia")
    assert pod["tolerations"] == accelerator["tolerations"]
    for container in _containers(pod):
        assert container["resources"]["limits"] == {"nvidia.com/gpu": "2"}
        assert container["resources"]["requests"]["memory"] == "64Gi"


def test_devices_can_be_claimed() -> None:
    accelerators = [{"name": "gpu", "deviceClass": "gpu.nvidia.com"}]
    children = _children(GPU, accelerators=accelerators, defaultAccelerator="gpu")
    template = children["ResourceClaimTemplate"]
    (request,) = template["spec"]["spec"]["devices"]["requests"]
    assert request["exactly"]["deviceClassName"] == "gpu.nvidia.com"
    pod = children["Job"]["spec"]["template"]["spec"]
    (claim,) = pod["resourceClaims"]
    assert claim["resourceClaimTemplateName"] == template["metadata"]["name"]
    assert _containers(pod)[0]["resources"]["claims"] == [{"name": claim["name"]}]


def test_a_failure_that_no_retry_helps_ends_the_job_and_a_lost_node_costs_none() -> None:
    spec = _children()["Job"]["spec"]
    ignored, failed = spec["podFailurePolicy"]["rules"]
    assert ignored["action"] == "Ignore"
    assert failed == {
        "action": "FailJob",
        "onExitCodes": {"operator": "In", "values": [UnsuitableError("").exit_code]},
    }
    assert spec["podReplacementPolicy"] == "Failed"
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
