"""Objectives that no number of replicas can meet."""

from slipstream_operator.api import units
from slipstream_operator.core.scaling import learning
from slipstream_operator.core.scaling.context import TickContext
from slipstream_operator.core.scaling.models import sizing
from slipstream_operator.core.scaling.state import State


def infeasible(context: TickContext, state: State) -> dict[str, str]:
    """Return the infeasible objectives by name, each with a sentence on what is feasible."""
    found = {}
    load, pods = context.load, context.pods
    for reading in context.readings:
        if not learning.missed(reading):
            continue
        name, current = reading.objective.name, units.format_seconds(reading.current or 0.0)
        model = state.model.coefficients
        if model is not None and context.demand.requests > 0:
            floor = sizing.latency(
                reading.objective.metric,
                reading.objective.share,
                model,
                context.demand.scaled(1e-3),
                sizing.BatchLimits(),
                1,
            )
            if floor > reading.objective.target:
                found[name] = (
                    f"{name} is {current}, and an engine without load needs {units.format_seconds(floor)}: "
                    f"ask for {units.format_seconds(1.2 * floor)} or more, or for a faster engine or shorter requests"
                )
        elif model is None and load.in_flight < context.engines and load.waiting < 1:
            found[name] = (
                f"{name} is {current} with {load.in_flight / max(pods.ready, 1):.1f} requests in flight per "
                f"replica: more replicas can't make one request faster than {reading.objective.text}"
            )
    return found
