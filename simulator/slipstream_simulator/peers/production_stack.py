"""vLLM production-stack 0.1.12: the ScaledObjects of its chart and of its operator."""

import dataclasses

from slipstream_operator.core.scaling.metrics.promql import Binary, Constant, Over, Series
from slipstream_runtime import contract
from slipstream_runtime.simulator import model
from slipstream_simulator import readings
from slipstream_simulator.peers import hpa, keda
from slipstream_simulator.policy import Policy

_SLOW = hpa.Behavior(
    up=hpa.Rules(0.0, (hpa.Rate("Pods", 1, 60),)),
    down=hpa.Rules(300.0, (hpa.Rate("Pods", 1, 60),)),
)


def chart(_: model.Parameters, target: float) -> Policy:
    """As shipped: the query of the gauge is not summed, so that two replicas are an error of the scaler."""
    trigger = keda.prometheus("waiting", Series(contract.WAITING), threshold=target)
    return keda.Keda("production-stack-chart", (trigger,), cooldown=360.0, floor=1)


def chart_repaired(_: model.Parameters, target: float) -> Policy:
    """With `sum(...)`."""
    query = readings.summed(Series(contract.WAITING))
    trigger = keda.prometheus("waiting", query, threshold=target)
    return keda.Keda("production-stack-chart-repaired", (trigger,), cooldown=360.0, floor=1)


def operator(_: model.Parameters, multiple: float) -> Policy:
    """As shipped: four triggers, of which the keepalive proposes the present count while there is traffic."""
    triggers = (_keepalive(), *_load(multiple))
    return keda.Keda("production-stack-operator", triggers, behavior=_SLOW, cooldown=1800.0)


def operator_repaired(_: model.Parameters, multiple: float) -> Policy:
    """The keepalive wakes from zero, and proposes nothing."""
    triggers = (dataclasses.replace(_keepalive(), scales=False), *_load(multiple))
    return keda.Keda(
        "production-stack-operator-repaired", triggers, behavior=_SLOW, cooldown=1800.0
    )


def _keepalive() -> keda.Trigger:
    """Whether anything came to the router in two minutes."""
    coming = readings.summed(Over("rate", Series(contract.ROUTER_REQUESTS), 120.0))
    return keda.prometheus(
        "keepalive", Binary(coming, "> bool", Constant(0.0)), threshold=1.0, kind="Value"
    )


def _load(multiple: float) -> tuple[keda.Trigger, ...]:
    """Running requests and tokens a second, with `multiple` of the shipped thresholds."""
    running = readings.summed(Series(contract.RUNNING))
    generated = readings.summed(Over("rate", Series(contract.GENERATION_TOKENS), 60.0))
    read = readings.summed(Over("rate", Series(contract.PROMPT_TOKENS), 60.0))
    return (
        keda.prometheus("running", running, threshold=5.0 * multiple),
        keda.prometheus("generated", generated, threshold=100.0 * multiple),
        keda.prometheus("read", read, threshold=100.0 * multiple),
    )
