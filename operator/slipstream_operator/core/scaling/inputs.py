"""Inputs of a decision, from query results and pods: the same for the operator and for the simulator."""

from slipstream_operator.core.objectives import Objectives
from slipstream_operator.core.scaling import supply
from slipstream_operator.core.scaling.bounds import Bounds
from slipstream_operator.core.scaling.metrics import signals, values
from slipstream_operator.core.scaling.metrics.query_results import ServiceResults
from slipstream_operator.core.scaling.metrics.values import Unknown
from slipstream_operator.core.scaling.state import Inputs
from slipstream_operator.core.scaling.supply import PodStatus


def build(
    results: ServiceResults | Unknown,
    *,
    now: float,
    window: float,
    pods: tuple[PodStatus, ...],
    bounds: Bounds,
    objectives: Objectives,
    down_window: float,
    rolling: bool = False,
    revision: str = "",
    max_sequences: int | None = None,
    engines: int = 1,
    provision: float = supply.UNSCHEDULABLE_AFTER,
    earlier: tuple[values.Reading, ...] = (),
    without: frozenset[str] = frozenset(),
) -> Inputs:
    """All that `policy.decide` wants of one service, from the answers about it and its pods.

    `max_sequences` is the object's word on one engine, for as long as the engines say nothing. `earlier` readings say
    what is not in the answers since it is asked less often.
    """
    load: values.Load | Unknown
    readings: tuple[values.Reading, ...] | Unknown
    if isinstance(results, Unknown):
        load = readings = results
        held = None
        measured = None
    else:
        ready = {
            pod.name: pod.ready_at
            for pod in pods
            if pod.ready_at is not None and not pod.terminating
        }
        load = signals.load(results, pods=ready, now=now, max_age=window)
        readings = signals.readings(results, objectives, earlier=earlier)
        held = signals.held(results)
        measured = signals.max_sequences(results, revision=revision)
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
        max_sequences=max_sequences if measured is None else max(1, measured // engines),
        engines=engines,
        provision=provision,
        held=held,
        without=without,
    )
