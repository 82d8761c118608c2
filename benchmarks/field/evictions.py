"""F1: two pods that the kubelet has evicted, then a rollout by Recreate."""

import time
from collections.abc import Callable
from typing import Any, Final

from dev import waiting
from dev.cluster.kube import Kube, Object, is_true
from tests.support import services

ROLLOUT_SECONDS: Final = 60.0
"""Time for a rollout, which takes a third of it."""
_EVICTION_SECONDS: Final = 120.0
_DISK: Final = {
    "requests": {"cpu": "20m", "memory": "128Mi", "ephemeral-storage": "10Mi"},
    "limits": {"ephemeral-storage": "30Mi"},
}
_FILL: Final = "open('/tmp/file', 'wb').write(bytes(60 << 20))"
NAME: Final = "full"


def recreate(kube: Kube, namespace: str) -> dict[str, float | str]:
    """Evict both replicas, then change the engine; return the status and the time of the rollout."""
    spec: dict[str, Any] = {
        "replicas": 2,
        "rollout": {"strategy": "Recreate"},
        "resources": _DISK,
    }
    _apply(kube, namespace, **spec)
    _until(lambda: len(_ready(kube, namespace)) == 2, "two replicas")
    for pod in _ready(kube, namespace):
        _fill(kube, namespace, pod)
    _until(lambda: len(_evicted(kube, namespace)) == 2, "two evictions")
    _until(lambda: len(_ready(kube, namespace)) == 2, "two new replicas")
    _until(lambda: _status(kube, namespace).get("readyReplicas") == 2, "the status")
    replicas = _status(kube, namespace)["replicas"]
    old = {pod["metadata"]["uid"] for pod in _ready(kube, namespace)}
    _apply(kube, namespace, **spec, simulator={"maxSequences": 7})

    def done() -> bool:
        ready = {pod["metadata"]["uid"] for pod in _ready(kube, namespace)}
        return len(ready) == 2 and old.isdisjoint(ready)

    took = _within(done, ROLLOUT_SECONDS)
    return {"f1_status_replicas": replicas, "f1_recreate_s": "never" if took is None else took}


def _apply(kube: Kube, namespace: str, **spec: Any) -> None:
    kube.apply(services.simulated(namespace, NAME, fake=False, **spec))


def _fill(kube: Kube, namespace: str, pod: Object) -> None:
    """Let a pod write more than its limit, so that the kubelet evicts it."""
    name = pod["metadata"]["name"]
    kube.kubectl("exec", "-n", namespace, name, "-c", "engine", "--", "python", "-c", _FILL)


def _pods(kube: Kube, namespace: str) -> list[Object]:
    return kube.find("Pod", namespace, labelSelector=f"slipstream.dev/service={NAME}")


def _ready(kube: Kube, namespace: str) -> list[Object]:
    return [
        pod
        for pod in _pods(kube, namespace)
        if is_true(pod, "Ready") and "deletionTimestamp" not in pod["metadata"]
    ]


def _evicted(kube: Kube, namespace: str) -> list[Object]:
    return [pod for pod in _pods(kube, namespace) if pod["status"].get("reason") == "Evicted"]


def _status(kube: Kube, namespace: str) -> dict[str, Any]:
    found = kube.get("InferenceService", namespace, NAME)
    status: dict[str, Any] = (found or {}).get("status", {})
    return status


def _until(condition: Callable[[], bool], what: str) -> None:
    waiting.until(condition, seconds=_EVICTION_SECONDS, what=what, interval=0.5)


def _within(condition: Callable[[], bool], seconds: float) -> float | None:
    """Return the seconds until the condition holds; None if that takes longer than `seconds`."""
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        if condition():
            return round(time.monotonic() - began, 1)
        time.sleep(0.5)
    return None
