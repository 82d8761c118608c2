"""Detection of a failing service, for which scaling up has no rate limit."""

from typing import Final

from slipstream_operator.core.scaling import learning
from slipstream_operator.core.scaling.context import TickContext

KV_ALARM: Final = 0.92
"""Share of the KV cache in use above which vLLM will soon preempt requests."""
_BURN_ALARM: Final = 14.0
"""Burn rate of the error budget: the SRE Workbook pages at 14.4."""


def detected(context: TickContext) -> bool:
    """Whether at least two signs say that the service is failing now."""
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
