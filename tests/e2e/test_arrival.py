"""A service may come before its model's volume and its Secret: each is a condition, and heals when it comes."""

from pathlib import Path

import httpx

from dev.cluster.kube import Kube, Object, condition, is_true
from tests.support import services

CLAIM = "weights"


def service(namespace: str) -> Object:
    return {
        "apiVersion": "slipstream.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": "early", "namespace": namespace},
        "spec": {
            "model": {
                "uri": f"pvc://{CLAIM}/target",
                "tokenSecret": {"name": "hub", "key": "token"},
            },
            **services.DIRECT,
        },
    }


def volume(namespace: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": namespace},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadOnlyMany"],
            "storageClassName": "",
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": str(Path("dev/models").resolve())},
            "claimRef": {"namespace": namespace, "name": CLAIM},
        },
    }


def claim(namespace: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": CLAIM, "namespace": namespace},
        "spec": {
            "accessModes": ["ReadOnlyMany"],
            "storageClassName": "",
            "volumeName": namespace,
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }


def available_because(kube: Kube, namespace: str, reason: str) -> str:
    found = kube.until(
        "InferenceService",
        namespace,
        lambda items: condition(items[0], "Available").get("reason") == reason and items[0],
        name="early",
        timeout=60,
        what=reason,
    )
    message: str = condition(found, "Available")["message"]
    return message


def test_a_service_waits_for_its_volume_and_its_secret(kube: Kube, namespace: str) -> None:
    kube.apply(service(namespace))
    assert CLAIM in available_because(kube, namespace, "Unschedulable")
    kube.apply(volume(namespace))
    kube.apply(claim(namespace))
    try:
        assert '"hub" not found' in available_because(kube, namespace, "ContainerConfigError")
        kube.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "hub", "namespace": namespace},
                "stringData": {"token": "not-a-real-token"},
            }
        )
        kube.until(
            "InferenceService",
            namespace,
            lambda items: is_true(items[0], "Ready"),
            name="early",
            timeout=240,
            what="the service",
        )
        public = kube.get("Service", namespace, "early")
        assert public is not None
        body = {"model": "early", "prompt": "hello", "max_tokens": 4}
        url = f"http://{public['spec']['clusterIP']}/v1/completions"
        assert httpx.post(url, json=body, timeout=60).status_code == 200
        pod = kube.find("Pod", namespace)[0]
        assert "not-a-real-token" not in str(pod)
    finally:
        kube.delete("PersistentVolume", None, namespace)
