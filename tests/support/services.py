"""InferenceServices for tests."""

from typing import Any

from dev.cluster.kube import Kube, Object, is_true

FAKE_NODES = {
    "nodeSelector": {"type": "kwok"},
    "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists", "effect": "NoSchedule"}],
}
"""spec.template that puts pods on kwok's nodes, where they are Ready at once and use nothing."""


def gpu_profile(namespace: str, **spec: Any) -> dict[str, Any]:
    """A ServingProfile of the namespace alone, whose accelerators are the GPUs of the fake nodes."""
    return {
        "apiVersion": "slipstream.dev/v1alpha1",
        "kind": "ServingProfile",
        "metadata": {"name": namespace},
        "spec": {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "accelerators": [{"name": "gpu", "resourceName": "nvidia.com/gpu", **FAKE_NODES}],
            "images": {"vllm": "localhost/slipstream/runtime:dev"},
            **spec,
        },
    }


DIRECT = {"routing": {"mode": "Direct"}}
"""Part of a spec: the engines are reached past the router, where a test is about engines."""


def simulated(namespace: str, name: str, *, fake: bool = True, **spec: Any) -> dict[str, Any]:
    """A service without a model; on fake nodes, and reached past the router, unless said otherwise."""
    template = {"template": FAKE_NODES} if fake else {}
    return {
        "apiVersion": "slipstream.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"runtime": "simulator", **DIRECT, **template, **spec},
    }


def ready(kube: Kube, namespace: str, name: str, *, timeout: float = 20.0) -> Object:
    """Wait until the service is Ready; the object as it is then."""
    found: Object = kube.until(
        "InferenceService",
        namespace,
        lambda items: next((item for item in items if is_true(item, "Ready")), None),
        name=name,
        timeout=timeout,
        what=name,
    )
    return found
