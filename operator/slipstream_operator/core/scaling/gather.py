"""From samples and pods to the inputs of a decision: the same for the operator and for the simulator."""

from slipstream_operator.core.objectives import Objectives
from slipstream_operator.core.resolve import Bounds
from slipstream_operator.core.scaling import signals
from slipstream_operator.core.scaling.signals import Samples, Unknown
from slipstream_operator.core.scaling.state import Inputs
from slipstream_operator.core.scaling.supply import Pod


def inputs(
    samples: Samples | Unknown,
    *,
    now: float,
    window: float,
    pods: tuple[Pod, ...],
    bounds: Bounds,
    objectives: Objectives,
    down_window: float,
    rolling: bool = False,
    revision: str = "",
    max_sequences: int | None = None,
    earlier: tuple[signals.Reading, ...] = (),
    without: frozenset[str] = frozenset(),
) -> Inputs:
    """All that `policy.decide` wants of one service, from its own samples and pods.

    `earlier` readings say what is not in the samples since it is asked less often.
    """
    load: signals.Load | Unknown
    readings: tuple[signals.Reading, ...] | Unknown
    if isinstance(samples, Unknown):
        load = readings = samples
        held = None
    else:
        ready = {
            pod.name: pod.ready_at
            for pod in pods
            if pod.ready_at is not None and not pod.terminating
        }
        load = signals.load(samples, pods=ready, now=now, max_age=window)
        readings = signals.readings(samples, objectives, earlier=earlier)
        held = signals.held(samples)
    return Inputs(
        now=now,
        bounds=bounds,
        pods=pods,
        rolling=rolling,
        load=load,
        readings=readings,
        objectives=objectives,
        down_window=down_window,
        window=window,
        revision=revision,
        max_sequences=max_sequences,
        held=held,
        without=without,
    )
