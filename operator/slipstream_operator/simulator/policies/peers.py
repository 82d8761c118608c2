"""The peers by name: how each is made as shipped, and the knob that is swept to find its best."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from slipstream_operator.simulator.policies import aibrix, concurrency, dynamo, hpas, wva
from slipstream_operator.simulator.policies.policy import Policy
from slipstream_runtime.simulator.model import Parameters

Make = Callable[[str, float, Parameters], Policy]
"""Name, knob and the engine's true parameters -> the policy."""

_CONCURRENCY: Final = (4.0, 8.0, 16.0, 24.0, 32.0, 48.0, 64.0, 100.0)
_SHARES: Final = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Peer:
    """One peer: `shipped` is its knob's value as it comes, `sweep` the values tried to find its best."""

    make: Make
    knob: str
    shipped: float
    sweep: tuple[float, ...]


def _plain(kind: Callable[[str, float], Policy]) -> Make:
    return lambda name, knob, _: kind(name, knob)


def _profiled(kind: Callable[..., Policy], **options: float) -> Make:
    return lambda name, knob, parameters: kind(name, knob, parameters=parameters, **options)


def _v1(window: float) -> Make:
    return lambda name, knob, _: wva.V1(name, knob, window=window)


_WAITING: Final = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0)

PEERS: Final[Mapping[str, Peer]] = {
    "hpa-waiting": Peer(_plain(hpas.HpaWaiting), "waiting a pod", 5, _WAITING),
    "hpa-kv": Peer(_plain(hpas.HpaKv), "KV usage", 0.5, _SHARES),
    "hpa-running": Peer(_plain(hpas.HpaRunning), "running a pod", 32, _CONCURRENCY),
    "production-stack": Peer(_plain(hpas.ProductionStackChart), "waiting a pod", 5, _WAITING),
    "production-stack-repaired": Peer(
        _plain(hpas.ProductionStackChartRepaired), "waiting a pod", 5, _WAITING
    ),
    "production-stack-operator": Peer(
        _plain(hpas.ProductionStackOperator), "running a pod", 5, _CONCURRENCY
    ),
    "production-stack-operator-repaired": Peer(
        _plain(hpas.ProductionStackOperatorRepaired), "running a pod", 5, _CONCURRENCY
    ),
    "kaito": Peer(_plain(hpas.Kaito), "waiting a pod", 10, _WAITING),
    "kaito-repaired": Peer(_plain(hpas.KaitoRepaired), "waiting a pod", 10, _WAITING),
    "ome": Peer(_plain(hpas.Ome), "TPOT in seconds", 0.07, (0.01, 0.015, 0.02, 0.03, 0.04, 0.07)),
    "ome-repaired": Peer(
        _plain(hpas.OmeRepaired), "TPOT in seconds", 0.07, (0.01, 0.015, 0.02, 0.03, 0.04, 0.07)
    ),
    "kubeai": Peer(_plain(concurrency.KubeAI), "active a pod", 100, _CONCURRENCY),
    "knative": Peer(_plain(concurrency.Knative), "concurrency a pod", 100, _CONCURRENCY),
    "ray-serve": Peer(_plain(concurrency.RayServe), "ongoing a pod", 2, (2.0, *_CONCURRENCY)),
    "wva-v1": Peer(_v1(240.0), "KV threshold", 0.8, _SHARES),
    "wva-v1-no-window": Peer(_v1(0.0), "KV threshold", 0.8, _SHARES),
    "wva-v2": Peer(_profiled(wva.V2), "share of capacity", 0.85, _SHARES),
    "wva-v2-no-window": Peer(_profiled(wva.V2, window=0.0), "share of capacity", 0.85, _SHARES),
    "wva-old": Peer(_profiled(wva.Inferno), "share of the rate", 1.0, (*_SHARES, 1.0)),
    "aibrix-apa": Peer(_plain(aibrix.Apa), "KV usage", 0.5, _SHARES),
    "aibrix-apa-repaired": Peer(_plain(aibrix.ApaRepaired), "KV usage", 0.5, _SHARES),
    "aibrix-kpa": Peer(_plain(aibrix.Kpa), "KV usage", 0.5, _SHARES),
    "aibrix-kpa-repaired": Peer(_plain(aibrix.KpaRepaired), "KV usage", 0.5, _SHARES),
    "aibrix-optimizer": Peer(
        _profiled(aibrix.Optimizer), "share of the rate", 0.9, (*_SHARES, 1.0)
    ),
    "dynamo": Peer(_profiled(dynamo.Planner), "share of the rate", 1.0, (*_SHARES, 1.0)),
}
