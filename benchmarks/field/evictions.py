"""F1: two pods that the kubelet has evicted, then a rollout by Recreate or more load."""

import time
from collections.abc import Callable
from typing import Any, Final

from benchmarks.field.load import Load
from dev import waiting
from dev.cluster.kube import Kube, Object, is_true
from dev.errors import DevError
from tests.support import services

ROLLOUT_SECONDS: Final = 60.0
"""Time for a rollout, which takes a third of it."""
SCALE_SECONDS: Final = 75.0
"""Time of the load, in which a service without evicted pods gets all its replicas."""
REPLICAS: Final = 2
MAX_REPLICAS: Final = 4
CLIENTS: Final = 32
"""Clients of an engine that runs 8 requests at once: two replicas keep half of them waiting."""
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
        "replicas": REPLICAS,
        "rollout": {"strategy": "Recreate"},
        "resources": _DISK,
    }
    _apply(kube, namespace, **spec)
    _evict(kube, namespace)
    _until(lambda: _status(kube, namespace).get("readyReplicas") == REPLICAS, "the status")
    replicas = _status(kube, namespace)["replicas"]
    old = {pod["metadata"]["uid"] for pod in _ready(kube, namespace)}
    _apply(kube, namespace, **spec, simulator={"maxSequences": 7})

    def done() -> bool:
        ready = {pod["metadata"]["uid"] for pod in _ready(kube, namespace)}
        return len(ready) == REPLICAS and old.isdisjoint(ready)

    took = _within(done, ROLLOUT_SECONDS)
    return {"f1_status_replicas": replicas, "f1_recreate_s": "never" if took is None else took}


def scale(kube: Kube, namespace: str) -> dict[str, float | str]:
    """Evict both replicas, then send more than two can serve; return the replicas that the load gets."""
    _apply(
        kube,
        namespace,
        resources=_DISK,
        # NB: past the router, a client's kept connections would all stay with the first replicas.
        routing={"mode": "Router"},
        simulator={"alpha": "50ms", "maxSequences": 8, "coldStart": "3s"},
        slo={"ttft": {"p95": "500ms"}},
        scaling={"minReplicas": REPLICAS, "maxReplicas": MAX_REPLICAS},
    )
    services.ready(kube, namespace, NAME, timeout=_EVICTION_SECONDS)
    _evict(kube, namespace)
    most = 0

    def reached(count: int) -> bool:
        nonlocal most
        most = max(most, len(_ready(kube, namespace)))
        return most >= count

    with Load(kube, namespace, NAME, clients=CLIENTS):
        took = _within(lambda: reached(REPLICAS + 1), SCALE_SECONDS)
        _within(lambda: reached(MAX_REPLICAS), SCALE_SECONDS - (took or SCALE_SECONDS))
        limited = _status(kube, namespace).get("scaling", {}).get("limited", "nothing")
    return {
        "f1_scaled_replicas": most,
        "f1_scaled_s": "never" if took is None else took,
        "f1_limited": limited,
    }


def _evict(kube: Kube, namespace: str) -> None:
    """Wait for both replicas, let the kubelet evict them, and wait for those that replace them."""
    _until(lambda: len(_ready(kube, namespace)) == REPLICAS, "two replicas")
    for pod in _ready(kube, namespace):
        _fill(kube, namespace, pod)
    _until(lambda: len(_evicted(kube, namespace)) == REPLICAS, "two evictions")
    _until(lambda: len(_ready(kube, namespace)) == REPLICAS, "two new replicas")


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
    try:
        waiting.until(condition, seconds=seconds, what="the figure", interval=0.5)
    except DevError:
        return None
    return round(time.monotonic() - began, 1)
