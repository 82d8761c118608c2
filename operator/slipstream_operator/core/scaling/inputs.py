"""Inputs of a decision, built from query results and pods: the same for the operator and for the simulator."""

import dataclasses

from slipstream_operator.core.objectives import Objectives
from slipstream_operator.core.scaling import supply
from slipstream_operator.core.scaling.bounds import Bounds
from slipstream_operator.core.scaling.metrics import signals
from slipstream_operator.core.scaling.metrics.query_results import ServiceResults
from slipstream_operator.core.scaling.metrics.values import Load, Reading, Unknown
from slipstream_operator.core.scaling.supply import PodStatus


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a service's scaling: what its object and its profile say."""

    bounds: Bounds
    objectives: Objectives
    scale_down_window: float
    """Seconds that a lower need must last, at least."""
    rate_window: float = 60.0
    """Seconds that rates are taken over."""
    max_sequences: int | None = None
    """The largest batch of one engine: of the object, until the engines report theirs."""
    engines: int = 1
    """Data-parallel engines of one replica, which share its requests."""
    provision_time: float = supply.UNSCHEDULABLE_AFTER
    """Seconds for which a pod without a node counts as starting."""
    without: frozenset[str] = frozenset()
    """Parts of the policy to leave out in comparisons: conservation, forecast, feedback, futility."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inputs(Settings):
    """All values that one decision depends on, besides the state: the settings, and what was observed."""

    now: float
    """Seconds since the epoch."""
    pods: tuple[PodStatus, ...]
    rolling: bool
    """Whether a rollout is in progress."""
    load: Load | Unknown
    readings: tuple[Reading, ...] | Unknown
    revision: str = ""
    """Revision of the pods: the engines of another revision have another step time."""
    held: float | None = None
    """Requests that wait in the router; None without a router."""


def build(
    results: ServiceResults | Unknown,
    settings: Settings,
    *,
    now: float,
    pods: tuple[PodStatus, ...],
    revision: str = "",
    rolling: bool = False,
    earlier: tuple[Reading, ...] = (),
) -> Inputs:
    """Return the inputs of `policy.decide` for one service.

    `earlier` readings stand in for latencies that this round did not query.
    """
    load: Load | Unknown
    readings: tuple[Reading, ...] | Unknown
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
        load = signals.load(results, pods=ready, now=now, max_age=settings.rate_window)
        readings = signals.readings(results, settings.objectives, earlier=earlier)
        held = signals.held(results)
        measured = signals.max_sequences(results, revision=revision)
    fields = vars(settings)
    if measured is not None:
        fields = {**fields, "max_sequences": max(1, measured // settings.engines)}
    return Inputs(
        **fields,
        now=now,
        pods=pods,
        rolling=rolling,
        load=load,
        readings=readings,
        revision=revision,
        held=held,
    )
