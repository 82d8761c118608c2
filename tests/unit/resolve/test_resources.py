"""Requests and limits of engine pods: the object's, the profile's, and what a GPU pod gets by default."""

import dataclasses
from typing import Any

import pytest

from slipstream_operator.core import resolve, resources
from slipstream_operator.core.facts import Facts, ModelFacts
from slipstream_operator.errors import PermanentError
from tests.support import given

GI = 1 << 30
GPU = "nvidia.com/gpu"


def container(spec: dict[str, Any] | None = None, **snapshot: Any) -> Any:
    """The engine container's resources, as rendered."""
    manifests = given.rendered(given.observed({"model": given.MODEL, **(spec or {})}, **snapshot))
    (deployment,) = (each for each in manifests if each["kind"] == "Deployment")
    return deployment["spec"]["template"]["spec"]["containers"][0]["resources"]


def init(resources: dict[str, Any]) -> dict[str, Any]:
    """An init container."""
    return {"name": "a", "image": "tools:1", "resources": resources}


def test_a_gpu_pod_is_never_best_effort() -> None:
    assert container() == {
        "limits": {GPU: "1"},
        "requests": {"cpu": "3", "ephemeral-storage": "26Gi", "memory": "11Gi", GPU: "1"},
    }


@pytest.mark.parametrize(
    ("gpus", "weights", "expected"),
    [
        (1, None, {"cpu": "3", "memory": "11Gi", "ephemeral-storage": "26Gi"}),
        (1, 2 * GI, {"cpu": "3", "memory": "8Gi", "ephemeral-storage": "12Gi"}),
        (1, 16 * GI, {"cpu": "3", "memory": "11Gi", "ephemeral-storage": "26Gi"}),
        (4, 141 * 10**9, {"cpu": "6", "memory": "32Gi", "ephemeral-storage": "142Gi"}),
        (8, 410 * 10**9, {"cpu": "10", "memory": "60Gi", "ephemeral-storage": "392Gi"}),
    ],
)
def test_the_default_follows_gpus_and_weights(
    gpus: int, weights: int | None, expected: dict[str, str]
) -> None:
    found = resources.defaults(gpus=gpus, weights_bytes=weights, downloads=True, keeps_cache=False)
    assert found == expected


@pytest.mark.parametrize(
    ("spec", "storage"),
    [
        ({}, "26Gi"),
        ({"cache": {"model": {"claim": {"name": "kept"}}}}, "10Gi"),
        ({"model": {"uri": "pvc://models/qwen"}}, "10Gi"),
        ({"model": {"uri": "pvc://models/qwen"}, "speculation": {"draft": "hf://a/b"}}, "26Gi"),
    ],
)
def test_only_what_a_pod_downloads_to_its_own_disk_is_requested_there(
    spec: dict[str, Any], storage: str
) -> None:
    assert container(spec)["requests"]["ephemeral-storage"] == storage


def test_object_and_profile_win_resource_by_resource() -> None:
    accelerator = {
        "name": "gpu",
        "resourceName": GPU,
        "resources": {
            "requests": {"cpu": "8", "memory": "64Gi"},
            "limits": {"memory": "128Gi", "example.com/rdma": "1"},
        },
    }
    found = container(
        {"resources": {"requests": {"memory": "200Gi"}}},
        profiles=[given.profile(accelerators=[accelerator])],
    )
    assert found == {
        "limits": {GPU: "1", "example.com/rdma": "1"},
        "requests": {"cpu": "8", "ephemeral-storage": "26Gi", "memory": "200Gi", GPU: "1"},
    }


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (
            {"resources": {"requests": {"memory": "8Gi"}, "limits": {"memory": "4Gi"}}},
            'spec.resources.requests: "memory" of 8Gi can\'t be more than its limit of 4Gi',
        ),
        (
            {"resources": {"requests": {"rdma/hca": "1"}}},
            'spec.resources.requests: "rdma/hca" can\'t differ from its limit',
        ),
        (
            {"resources": {"requests": {"hugepages-2Mi": "1Gi"}}},
            'spec.resources.requests: "hugepages-2Mi" can\'t differ from its limit',
        ),
        (
            {"resources": {"limits": {"rdma/hca": "500m"}}},
            'spec.resources.limits: "rdma/hca" of 500m is not a whole number of devices',
        ),
        (
            {"resources": {"requests": {"memory": "500m"}}},
            'spec.resources.requests: "memory" of 500m can\'t work because it is less than 1Mi',
        ),
        (
            {"resources": {"limits": {"memory": 16}}},
            'spec.resources.limits: "memory" of 16 can\'t work because it is less than 1Mi',
        ),
        (
            {"resources": {"limits": {"ephemeral-storage": "1e3"}}},
            'spec.resources.limits: "ephemeral-storage" of 1e3 can\'t work because it is less than',
        ),
        (
            {"resources": {"limits": {"gpu": "1"}}},
            'spec.resources.limits: "gpu" is not a Kubernetes resource',
        ),
        (
            {
                "template": {
                    "initContainers": [init({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}})]
                }
            },
            'spec.template.initContainers[a].resources.requests: "cpu" of 2 can\'t be more than',
        ),
    ],
)
def test_what_kubernetes_or_a_quota_would_not_grant_is_refused(
    spec: dict[str, Any], problem: str
) -> None:
    with pytest.raises(PermanentError) as refused:
        given.resolved({"model": given.MODEL, **spec})
    assert refused.value.message.startswith(problem)


def test_a_profile_whose_request_exceeds_its_limit_is_named() -> None:
    resources = {"requests": {"cpu": "8"}, "limits": {"cpu": "4"}}
    gpu = {"name": "gpu", "resourceName": GPU, "resources": resources}
    with pytest.raises(
        PermanentError, match=r"ServingProfile default: accelerators\[gpu\].resources"
    ):
        given.resolved(profiles=(given.profile(accelerators=[gpu]),))


def test_network_devices_may_be_asked_for() -> None:
    found = container({"resources": {"limits": {"rdma/hca": "1", "nvidia.com/hostdev": "1"}}})
    assert found["limits"] == {"rdma/hca": "1", "nvidia.com/hostdev": "1", GPU: "1"}


def test_the_request_of_cores_stays_within_their_limit() -> None:
    spec = {
        "accelerator": {"type": "cpu", "count": 4},
        "resources": {"limits": {"cpu": "2500m", "memory": "8Gi"}},
    }
    assert container(spec)["requests"]["cpu"] == "2500m"
    spec["resources"] = {"limits": {"cpu": "6", "memory": "8Gi"}}
    assert container(spec)["requests"]["cpu"] == "4"


def test_a_limit_alone_is_the_request_too() -> None:
    found = container({"resources": {"limits": {"memory": "24Gi"}}})
    assert found["limits"]["memory"] == "24Gi"
    assert "memory" not in found["requests"]


def test_defaults_of_gpu_pods_are_no_part_of_the_revision() -> None:
    revisioned = given.resolved().revisioned
    assert revisioned.resources == {"limits": {GPU: "1"}, "requests": {GPU: "1"}}


@pytest.mark.parametrize("spec", [{"accelerator": {"type": "cpu"}}])
def test_cpu_pods_have_their_own_defaults(spec: dict[str, Any]) -> None:
    assert container(spec) == {
        "limits": {"memory": "4Gi"},
        "requests": {"cpu": "1", "memory": "1Gi"},
    }


@pytest.mark.parametrize(
    ("facts", "memory", "storage"),
    [
        (None, "11Gi", "26Gi"),
        (Facts(ModelFacts(bytes=2 * GI)), "8Gi", "12Gi"),
        (Facts(ModelFacts(bytes=2 * GI, uri="hf://org/model")), "8Gi", "12Gi"),
        (Facts(ModelFacts(bytes=2 * GI, uri="hf://org/former")), "11Gi", "26Gi"),
    ],
)
def test_the_size_that_was_reported_counts_without_a_new_revision(
    facts: Facts | None, memory: str, storage: str
) -> None:
    snapshot = given.observed()
    found = resolve.resolve(dataclasses.replace(snapshot, facts=facts))
    assert found.default_requests["memory"] == memory
    assert found.default_requests["ephemeral-storage"] == storage
    assert found.revisioned == resolve.resolve(snapshot).revisioned


@pytest.mark.parametrize(
    ("spec", "refused"),
    [
        ({"resources": {"limits": {"ephemeral-storage": "100Gi"}}}, True),
        (
            {
                "resources": {"limits": {"ephemeral-storage": "200Gi"}},
                "cache": {"offload": {"cpu": "1Gi", "disk": "100Gi"}},
            },
            True,
        ),
        ({"resources": {"limits": {"ephemeral-storage": "200Gi"}}}, False),
        (
            {
                "resources": {"limits": {"ephemeral-storage": "20Gi"}},
                "cache": {"model": {"claim": {"name": "kept"}}},
            },
            False,
        ),
    ],
)
def test_a_limit_of_the_disk_that_a_download_exceeds_is_refused(
    spec: dict[str, Any], refused: bool
) -> None:
    facts = Facts(ModelFacts(bytes=141 * GI, uri=given.MODEL["uri"]))
    snapshot = given.observed({"model": given.MODEL, **spec}, facts=facts)
    if not refused:
        resolve.resolve(snapshot)
        return
    with pytest.raises(
        PermanentError, match="the pod downloads 141Gi to its own disk, and would be"
    ):
        resolve.resolve(snapshot)
