"""Service with every default decided."""

import dataclasses
from collections.abc import Mapping
from decimal import Decimal

from slipstream_operator.core import (
    devices,
    fetching,
    objectives,
    prefetching,
    quota,
    routing,
    times,
)
from slipstream_operator.core.build_sources import BuildSource
from slipstream_operator.core.fit.memory import Demand
from slipstream_operator.core.observed import Key, Manifest
from slipstream_operator.core.prometheus import RATE_WINDOW, Scraping, Server
from slipstream_operator.core.rollout.policy import Policy
from slipstream_operator.core.roofline import Roofline
from slipstream_operator.core.scaling.bounds import Bounds


@dataclasses.dataclass(frozen=True)
class Revisioned:
    """Inputs of a revision. A change of any of them restarts the pods."""

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
    """Secret with the keys that the engine accepts, or the router's token. Its content is not part of the revision."""
    cache: Manifest | None = None
    """Source of the cache volume, as core/v1 names it; None is an emptyDir."""
    start: int | None = None
    """Maximum time of a start in seconds, if the object or the profile sets one."""
    offload_disk: str | None = None
    """Size of the volume for KV cache blocks on disk."""
    nodes: int | None = None
    """Pods of a replica that spans nodes; None is one pod."""
    devices: Manifest | None = None
    """`deviceClass` and `count` of a pod's claim; None with a device plugin or without devices."""
    images: tuple[str, ...] | None = None
    """Sources that are mounted as image volumes."""
    certificate: str | None = None
    """Secret with the TLS certificate of the API port. Its content is not part of the revision."""
    credentials: str | None = None
    """Secret with the credentials of object stores. Its content is not part of the revision."""
    chat_template: tuple[str, str] | None = None
    """ConfigMap and key with the chat template. Its content is not part of the revision."""
    builds: Manifest | None = None
    """Field -> name of a build and digest of its artifact, which the other fields hold the uri of."""


@dataclasses.dataclass(frozen=True)
class Resolved:
    """Service with all defaults resolved."""

    key: Key
    uid: str
    model_name: str
    runtime: str
    accelerator: str
    quantization: str | None
    """Quantization method; None for a runtime without quantization."""
    speculation: str | None
    disable_below: float | None
    """Share of accepted tokens below which speculation is switched off."""
    disable_below_gain: float | None = dataclasses.field(default=None, kw_only=True)
    """Gain in decoding speed below which speculation is switched off, such as 0.05."""
    max_length: int | None
    adapters: Mapping[str, str] | None
    """Name -> URI and revision, if the engines support adapters. Not part of the revision of the service."""
    revisioned: Revisioned
    recreate: bool
    steps: Policy | None = dataclasses.field(default=None, kw_only=True)
    """Policy of rollouts in steps; None if all requests move at once. Not part of the revision."""
    bounds: Bounds
    objectives: objectives.Objectives
    scale_down_window: float
    prometheus: tuple[Server, float] | None
    """Server and rate window in seconds."""
    routing: routing.Routing
    times: times.Times
    default_requests: Mapping[str, str]
    """Requests of the engine container for resources that `revisioned.resources` lacks. Not part of the revision."""
    default_memory_limit: str | None = dataclasses.field(default=None, kw_only=True)
    """Limit of memory where `revisioned.resources` has none. Not part of the revision."""
    dedicated: bool
    """Whether a replica has devices of its own. Its pods then prefer nodes with other engines, so that whole nodes stay
    free. Not part of the revision."""
    scraping: Scraping = Scraping()  # noqa: RUF009 (frozen)
    egress: tuple[Manifest, ...] = ()
    """Rules of a NetworkPolicy for the connections that engines and downloads can open."""
    gateways: Manifest | None = None
    """Selector of the namespaces whose gateways reach the engines; None for all."""
    """Discovery of the pods by Prometheus. Not part of the revision."""
    max_sequences: int | None = None
    """Maximum sequences of one engine, if the object sets it."""
    engines: int = 1
    """Data-parallel engines of one replica."""
    provision_time: float = devices.CPU.provision_seconds
    """Seconds for which a pod without a node counts as starting."""
    speculation_disabled: str | None = None
    """Reason why the speculation of the spec is switched off."""
    task: fetching.Task | None = None
    """Download or inspection that engines wait for. Not part of the revision."""
    prefetch: prefetching.Prefetch | None = None
    """Images that nodes pull ahead. Not part of the revision."""
    demand: Demand | None = None
    """Memory demand of vLLM, as far as it is known. Not part of the revision."""
    share: quota.Share | None = None
    """Share of the namespace's quota; None without a quota."""
    roofline: Roofline | str = "nothing is known of the accelerator"
    """Facts for the shortest time of a decode step, or why they are unknown. Not part of the revision."""
    hourly_cost: Decimal | None = None
    """Cost of one replica per hour; None if the profile sets no cost."""
    builds: tuple[BuildSource, ...] = ()
    """Fields that name a ModelBuild, with the artifacts that are used for them."""

    @property
    def waits_for_build(self) -> bool:
        """Whether no revision can be made yet, because a build has published nothing."""
        return any(source.holds_revision for source in self.builds)

    @property
    def rate_window(self) -> float:
        """Return the range of rates in seconds."""
        return RATE_WINDOW if self.prometheus is None else self.prometheus[1]
