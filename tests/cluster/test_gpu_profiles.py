"""ServingProfiles for GPUs on kwok's nodes: quotas, devices by claims, and samples that the API server accepts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev.cluster.kube import Kube, Object, Refused, condition
from tests.support import services

ROOT = Path(__file__).parents[2]
SAMPLES = sorted((ROOT / "manifests/samples/profiles").glob("*.yaml"))
DRIVER = "gpu.example.com"
SOON = 30.0


def profile(name: str, **spec: Any) -> dict[str, Any]:
    """A profile of one namespace, whose GPUs are those of kwok's nodes."""
    accelerator = {
        "name": "gpu",
        "hourlyCost": "2.50",
        **spec.pop("accelerator", {}),
    }
    return {
        "apiVersion": "slipstream.dev/v1alpha1",
        "kind": "ServingProfile",
        "metadata": {"name": name},
        "spec": {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
            "accelerators": [accelerator],
            "images": {"vllm": "image/vllm:1", "router": "image/router:1"},
            **spec,
        },
    }  # fmt: skip


def service(namespace: str, name: str, count: int, **spec: Any) -> dict[str, Any]:
    """A vLLM service on kwok's nodes, where its pods are Ready and run nothing."""
    return {
        "apiVersion": "slipstream.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "model": {"uri": "hf://org/model"},
            "accelerator": {"count": count},
            "template": services.FAKE_NODES,
            **services.DIRECT,
            **spec,
        },
    }


@pytest.fixture
def applied(kube: Kube) -> Iterator[Any]:
    """Apply objects of the cluster, which go with the test."""
    made: list[tuple[str, str]] = []

    def apply(manifest: dict[str, Any]) -> None:
        made.append((manifest["kind"], manifest["metadata"]["name"]))
        kube.apply(manifest)

    yield apply
    for kind, name in reversed(made):
        kube.delete(kind, None, name)


def until(kube: Kube, namespace: str, name: str, kind: str, status: str, reason: str) -> Object:
    def told(items: list[Object]) -> Object | None:
        for item in items:
            found = condition(item, kind)
            if (found.get("status"), found.get("reason")) == (status, reason):
                return item
        return None

    found: Object = kube.until(
        "InferenceService", namespace, told, name=name, timeout=SOON, what=f"{name} {kind} {reason}"
    )
    return found


def gpus(kube: Kube, namespace: str) -> int:
    """Accelerators that the namespace's pods hold."""
    return sum(
        int(pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"])
        for pod in kube.find("Pod", namespace)
        if "deletionTimestamp" not in pod["metadata"]
    )


def test_a_namespace_gets_no_more_accelerators_than_its_quota(
    kube: Kube, namespace: str, applied: Any
) -> None:
    applied(
        profile(
            namespace,
            accelerator={"resourceName": "nvidia.com/gpu"},
            limits={"maxAcceleratorsPerNamespace": 3},
        )
    )
    kube.apply(service(namespace, "a-old", 2))
    services.ready(kube, namespace, "a-old", timeout=SOON)
    kube.apply(service(namespace, "b-young", 2))
    refused = until(kube, namespace, "b-young", "Accepted", "False", "QuotaExceeded")
    assert "allows 3 accelerators per namespace, and older services use 2" in str(
        condition(refused, "Accepted")["message"]
    )
    kube.patch(
        "InferenceService", namespace, "a-old", {"spec": {"quantization": {"method": "fp8"}}}
    )
    until(kube, namespace, "a-old", "Reconciling", "True", "QuotaExceeded")
    assert gpus(kube, namespace) == 2
    kube.delete("InferenceService", namespace, "a-old")
    services.ready(kube, namespace, "b-young", timeout=SOON)


def test_a_pod_claims_devices_of_a_class_and_is_scheduled_where_they_are(
    kube: Kube, namespace: str, applied: Any
) -> None:
    selector = f"device.driver == '{DRIVER}'"
    applied(
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "DeviceClass",
            "metadata": {"name": DRIVER},
            "spec": {"selectors": [{"cel": {"expression": selector}}]},
        }
    )
    applied(
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceSlice",
            "metadata": {"name": f"{namespace}-kwok-1"},
            "spec": {
                "driver": DRIVER,
                "nodeName": "kwok-1",
                "pool": {"name": "kwok-1", "generation": 1, "resourceSliceCount": 1},
                "devices": [{"name": f"gpu-{n}"} for n in range(4)],
            },
        }
    )
    applied(profile(namespace, accelerator={"deviceClass": DRIVER}))
    kube.apply(service(namespace, "claims", 3))
    services.ready(kube, namespace, "claims", timeout=SOON)
    (pod,) = kube.find("Pod", namespace)
    assert pod["spec"]["nodeName"] == "kwok-1"
    (claim,) = kube.find("ResourceClaim", namespace)
    devices = claim["status"]["allocation"]["devices"]["results"]
    assert len({device["device"] for device in devices}) == 3
    assert [user["name"] for user in claim["status"]["reservedFor"]] == [pod["metadata"]["name"]]
    (template,) = kube.find("ResourceClaimTemplate", namespace)
    kube.delete("InferenceService", namespace, "claims")
    kube.until("ResourceClaimTemplate", namespace, lambda items: not items, timeout=60)
    assert template["metadata"]["labels"]["slipstream.dev/service"] == "claims"


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_the_api_server_accepts_a_sample_profile(kube: Kube, path: Path) -> None:
    kube.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", str(path))


@pytest.mark.parametrize(
    ("accelerator", "message"),
    [
        (
            {"deviceClass": "a", "resourceName": "b"},
            "resourceName and deviceClass can't be used together",
        ),
        ({"name": "cpu", "memory": "4Gi"}, "cpu has no device"),
        ({"memory": "lots"}, '"lots" is not a quantity above zero'),
        ({"hourlyCost": "$2"}, '"$2" is not an amount of money'),
        ({"memoryShare": "half"}, '"half" is not a percentage'),
    ],
)
def test_the_api_server_refuses_an_accelerator_that_cannot_work(
    kube: Kube, accelerator: dict[str, Any], message: str
) -> None:
    with pytest.raises(Refused) as error:
        kube.apply(yaml.safe_load(yaml.safe_dump(profile("refused", accelerator=accelerator))))
    assert message in str(error.value)
