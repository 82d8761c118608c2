"""Whether a service is failing right now, so that steps up know no limit."""

from typing import Final

from slipstream_operator.core.scaling import learning
from slipstream_operator.core.scaling.context import TickContext

KV_ALARM: Final = 0.92
"""Use of the KV cache above which requests will soon be preempted."""
_BURN_ALARM: Final = 14.0


def detected(context: TickContext) -> bool:
    """Any two signs that the service is failing right now."""
    load = context.load
    waiting = sum([pod.waiting_mean for pod in load.pods])
    signs = (
        load.kv_usage > KV_ALARM,
        any(pod.preempted > 0 for pod in load.pods),
        load.waiting > context.engines and load.waiting > waiting,
        any(pod.rejected > 0 for pod in load.pods),
        any(learning.burn_rate(reading) >= _BURN_ALARM for reading in context.readings),
        load.waiting > load.running,
    )
    return sum(signs) >= 2
