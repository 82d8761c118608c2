"""F8: two services with the same load, of which Prometheus scrapes one by two jobs."""

import contextlib
import re
import time
from typing import Final

from benchmarks.field import sides
from benchmarks.field.load import Load
from dev import waiting
from dev.cluster.kube import Kube
from tests.support import services

CLIENTS: Final = 12
NAMES: Final = ("once", sides.TWICE)
_STEADY_SECONDS: Final = 80.0
"""Time of the load: more than the minute after which the status has new numbers."""
_KNOWN_SECONDS: Final = 90.0
_IN_FLIGHT: Final = re.compile(r"\binFlight=([0-9.]+)")


def run(kube: Kube, namespace: str) -> dict[str, float | str]:
    """Load both services; return the load that the operator sees and the most replicas it asks for."""
    for name in NAMES:
        kube.apply(
            services.simulated(
                namespace,
                name,
                fake=False,
                resources={"requests": {"cpu": "20m", "memory": "128Mi"}},
                simulator={"maxSequences": 16},
                slo={"ttft": {"p95": "500ms"}},
                scaling={"minReplicas": 1, "maxReplicas": 5},
            )
        )
    for name in NAMES:
        services.ready(kube, namespace, name, timeout=120)
    most = dict.fromkeys(NAMES, 0)
    with contextlib.ExitStack() as stack:
        for name in NAMES:
            stack.enter_context(Load(kube, namespace, name, clients=CLIENTS))
        waiting.until(
            lambda: all(_in_flight(kube, namespace, name) for name in NAMES),
            seconds=_KNOWN_SECONDS,
            what="the load in the status",
            interval=1,
        )
        end = time.monotonic() + _STEADY_SECONDS
        while time.monotonic() < end:
            for name in NAMES:
                most[name] = max(most[name], int(_scaling(kube, namespace, name).get("desired", 0)))
            time.sleep(1)
        loads = {name: _in_flight(kube, namespace, name) for name in NAMES}
    figures: dict[str, float | str] = {}
    for name in NAMES:
        figures[f"f8_in_flight_{name}"] = loads[name] or "unknown"
        figures[f"f8_replicas_{name}"] = most[name]
    return figures


def _scaling(kube: Kube, namespace: str, name: str) -> dict[str, int | str]:
    found = kube.get("InferenceService", namespace, name)
    scaling: dict[str, int | str] = (found or {}).get("status", {}).get("scaling", {})
    return scaling


def _in_flight(kube: Kube, namespace: str, name: str) -> float | None:
    seen = _IN_FLIGHT.search(str(_scaling(kube, namespace, name).get("inputs", "")))
    return float(seen[1]) if seen else None
