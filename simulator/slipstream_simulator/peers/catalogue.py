"""Peers by name: their factory, the parameter that is tuned, and the source of their semantics."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from slipstream_runtime.simulator import model
from slipstream_simulator import readings
from slipstream_simulator.peers import (
    aibrix,
    aibrix_optimizer,
    dynamo,
    hpa_pods,
    kaito,
    knative,
    kubeai,
    ome,
    production_stack,
    ray_serve,
    settled,
    wva_old,
    wva_v1,
    wva_v2,
)
from slipstream_simulator.policy import Policy

Factory: TypeAlias = Callable[[model.Parameters, float], Policy]


@dataclass(frozen=True)
class Peer:
    """Autoscaler that Slipstream is compared with."""

    factory: Factory
    """Function of the engine's parameters, which only offline profiles use, and the value of the knob."""
    knob: str
    shipped: float
    """Value of the knob in the peer's defaults or samples."""
    sweep: tuple[float, ...]
    source: str

    def make(
        self, engine: model.Parameters, *, knob: float | None = None, settle: float = 0.0
    ) -> Policy:
        """Return the policy with the shipped or another value of the knob; it observes for `settle` seconds first."""
        policy = self.factory(engine, self.shipped if knob is None else knob)
        return settled.Settled(policy, settle) if settle else policy

    @property
    def knobs(self) -> tuple[float, ...]:
        """Return the values of the sweep, including the shipped value."""
        return tuple(sorted({*self.sweep, self.shipped}))


_HPA: Final = "Kubernetes 1.33, autoscaling/v2"
_STACK: Final = "production-stack 0.1.12 (a6c01db0)"
_WVA: Final = "workload-variant-autoscaler 0.5.1-rc.2 (b08b1c77)"
_INFERNO: Final = "workload-variant-autoscaler 0.0.2 (56a651b0)"
_AIBRIX: Final = "AIBrix 0.7.0 (e3e10f9e)"
_OME: Final = "OME 0.1.5 (17b77eda)"
_KAITO: Final = "KAITO 0.12.0 (056b8280), docs and proposal"

_WAITING: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
_KV: Final = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
_MULTIPLES: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_TPOT: Final = (0.010, 0.015, 0.020, 0.025, 0.030, 0.035, 0.070)

PEERS: Final[Mapping[str, Peer]] = {
    "hpa-waiting": Peer(hpa_pods.waiting, "waiting requests per pod", 5.0, _WAITING, _HPA),
    "hpa-kv": Peer(hpa_pods.kv, "KV usage", 0.5, _KV, _HPA),
    "production-stack-chart": Peer(
        production_stack.chart, "waiting requests", 5.0, _WAITING, _STACK
    ),
    "production-stack-chart-repaired": Peer(
        production_stack.chart_repaired, "waiting requests per pod", 5.0, _WAITING, _STACK
    ),
    "production-stack-operator": Peer(
        production_stack.operator, "multiple of its thresholds", 1.0, _MULTIPLES, _STACK
    ),
    "production-stack-operator-repaired": Peer(
        production_stack.operator_repaired, "multiple of its thresholds", 1.0, _MULTIPLES, _STACK
    ),
    "kaito": Peer(kaito.shipped, "waiting requests", 10.0, _WAITING, _KAITO),
    "kaito-repaired": Peer(kaito.repaired, "waiting requests per pod", 10.0, _WAITING, _KAITO),
    "ome-tpot": Peer(ome.shipped, "seconds per output token, median", 0.070, _TPOT, _OME),
    "ome-tpot-repaired": Peer(ome.repaired, "seconds per output token, median", 0.070, _TPOT, _OME),
    "kubeai": Peer(
        kubeai.shipped,
        "targetRequests",
        100.0,
        readings.TARGETS,
        "KubeAI chart 0.22.1 (f442a2cd)",
    ),
    "wva-v1": Peer(wva_v1.shipped, "kvCacheThreshold", 0.80, _KV, _WVA),
    "wva-v1-no-window": Peer(wva_v1.without_window, "kvCacheThreshold", 0.80, _KV, _WVA),
    "wva-v2": Peer(wva_v2.shipped, "scale-up threshold", 0.85, _KV, _WVA),
    "wva-v2-no-window": Peer(wva_v2.without_window, "scale-up threshold", 0.85, _KV, _WVA),
    "wva-old": Peer(wva_old.shipped, "share of the objectives", 1.0, readings.SHARES, _INFERNO),
    "wva-old-no-window": Peer(
        wva_old.without_window, "share of the objectives", 1.0, readings.SHARES, _INFERNO
    ),
    "aibrix-apa": Peer(aibrix.apa, "KV usage", 0.5, _KV, _AIBRIX),
    "aibrix-apa-repaired": Peer(aibrix.apa_repaired, "KV usage", 0.5, _KV, _AIBRIX),
    "aibrix-kpa": Peer(aibrix.kpa, "KV usage", 0.5, _KV, _AIBRIX),
    "aibrix-kpa-repaired": Peer(aibrix.kpa_repaired, "KV usage", 0.5, _KV, _AIBRIX),
    "aibrix-optimizer": Peer(
        aibrix_optimizer.shipped, "share of the profiled rate", 1.0, readings.SHARES, _AIBRIX
    ),
    "aibrix-optimizer-repaired": Peer(
        aibrix_optimizer.repaired, "share of the profiled rate", 1.0, readings.SHARES, _AIBRIX
    ),
    "knative-kpa": Peer(
        knative.shipped,
        "concurrency per pod",
        70.0,
        readings.TARGETS,
        "Knative Serving's defaults: 100 at 70 %",
    ),
    "dynamo-planner": Peer(
        dynamo.planner,
        "share of the TPOT objective",
        1.0,
        readings.SHARES,
        "NVIDIA Dynamo's SLA planner, as its documentation describes it",
    ),
    "ray-serve": Peer(
        ray_serve.shipped,
        "target_ongoing_requests",
        2.0,
        readings.TARGETS,
        "Ray Serve 2.32 and later: default 2",
    ),
}
"""Peers by name; `-repaired` peers are without the defects that docs/peers.md names."""
