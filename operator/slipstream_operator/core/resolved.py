"""Service with every default decided."""

import dataclasses
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from slipstream_operator.core import (
    devices,
    fetching,
    objectives,
    prefetching,
    quota,
    routing,
    times,
)
from slipstream_operator.core.fit.memory import Demand
from slipstream_operator.core.observed import Key, Manifest
from slipstream_operator.core.scaling.bounds import Bounds

RATE_WINDOW: Final = 60.0
"""Seconds that rates are taken over by default: four scrapes at the usual interval of 15 s."""


@dataclasses.dataclass(frozen=True)
class Revisioned:
    """Inputs of a revision: a change of any of them restarts the pods."""

    module: str
    image: str
    config: Manifest
    """The engine's configuration file, as data."""
    claims: tuple[str, ...]
    token_secret: tuple[str, str] | None
    resources: Manifest
    template: Manifest
    """Overrides from the accelerator and from spec.template, as core/v1 names them."""
    api_keys: str | None = None
    """Secret whose keys the engine asks for, or the router's token; its content is no part of this."""
    cache: Manifest | None = None
    """Source of the cache volume, as core/v1 names it; None is an emptyDir."""
    start: int | None = None
    """Budget of a start in seconds, if the object or the profile names one."""
    offload_disk: str | None = None
    """Size of the volume for KV cache blocks on disk."""
    nodes: int | None = None
    """Pods of a replica that spans nodes; None is one pod."""
    devices: Manifest | None = None
    """`deviceClass` and `count` of a pod's claim; None if a device plugin gives access, or none is needed."""
    images: tuple[str, ...] | None = None
    """Sources that are mounted as image volumes."""
    credentials: str | None = None
    """Secret with credentials of object stores; its content is no part of this."""


@dataclasses.dataclass(frozen=True)
class Resolved:
    """A service with every decision made."""

    key: Key
    uid: str
    model_name: str
    runtime: str
    accelerator: str
    quantization: str | None
    """None for a runtime that runs models as they are."""
    speculation: str | None
    disable_below: float | None
    """Share of accepted tokens below which speculation is switched off."""
    max_length: int | None
    adapters: Mapping[str, str] | None
    """Name -> uri, if the engines are ready for adapters; no part of the revision."""
    revisioned: Revisioned
    recreate: bool
    bounds: Bounds
    objectives: objectives.Objectives
    scale_down_window: float
    prometheus: tuple[str, float] | None
    """Base URL and rate window in seconds."""
    routing: routing.Routing
    times: times.Times
    default_requests: Mapping[str, str]
    """Requests of the engine container where `revisioned.resources` says nothing; no part of the revision."""
    packs: bool
    """Whether pods go to nodes that run engines already, so that whole nodes stay free; no part of the revision."""
    max_sequences: int | None = None
    """The largest batch of one engine, if the object says so."""
    engines: int = 1
    """Data-parallel engines of one replica."""
    provision_time: float = devices.CPU.provision_seconds
    """Seconds for which a pod without a node counts as starting."""
    speculation_disabled: str | None = None
    """Why the speculation that the object asks for does not run."""
    task: fetching.Task | None = None
    """Download or inspection that engines wait for; no part of the revision."""
    prefetch: prefetching.Prefetch | None = None
    """Images that nodes pull ahead; no part of the revision."""
    demand: Demand | None = None
    """Memory that vLLM asks of an accelerator, as far as it is known; no part of the revision."""
    share: quota.Share | None = None
    """Replicas that the namespace's quota leaves; None without a quota."""
    hourly_cost: Decimal | None = None
    """Cost of one replica for an hour; None if the profile names none."""

    @property
    def rate_window(self) -> float:
        """Seconds that rates are taken over."""
        return RATE_WINDOW if self.prometheus is None else self.prometheus[1]
