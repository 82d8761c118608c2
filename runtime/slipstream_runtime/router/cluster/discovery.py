"""Sources of configuration and endpoints: the API server, or two files that are read once."""

import asyncio
import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Final, Literal, Protocol

import pydantic

from slipstream_runtime import config_file, contract, errors, logs
from slipstream_runtime.part import Part
from slipstream_runtime.router import config
from slipstream_runtime.router.balancing.endpoints import Address
from slipstream_runtime.router.cluster import slices
from slipstream_runtime.router.cluster.client import Cluster, Manifest, Mirror
from slipstream_runtime.router.cluster.key_watches import KeyWatches
from slipstream_runtime.router.cluster.parts import Parts

_SLICES: Final = "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices"
_CONFIG_MAPS: Final = "/api/v1/namespaces/{}/configmaps"


class Target(Protocol):
    """Router that takes configuration and endpoints."""

    def configure(self, settings: config.Config) -> None:
        """Apply a new configuration."""
        ...

    def update(self, found: Mapping[str, Collection[Address]]) -> None:
        """Apply the present endpoints of each revision."""
        ...

    def update_routers(self, found: Collection[Address]) -> None:
        """Apply the other routers of the namespace."""
        ...

    def update_keys(self, secret: str, entries: Mapping[str, bytes] | None) -> None:
        """Apply the content of a Secret with API keys; None if it could not be read."""
        ...


class EndpointEntry(Part):
    """One engine in the endpoints file."""

    host: str
    port: int = contract.API_PORT
    management_port: int = contract.MANAGEMENT_PORT
    scheme: Literal["http", "https"] = "http"


class EndpointsFile(Part):
    """Content of the endpoints file."""

    revisions: Mapping[str, tuple[EndpointEntry, ...]]
    """Engines by name of their revision."""
    routers: tuple[EndpointEntry, ...] = ()
    """Other routers, which hold shares of the same budgets."""


def from_files(router: Target, *, settings: Path, endpoints: Path) -> None:
    """Read both from files; UnsuitableError if one is invalid."""
    router.configure(config_file.load(settings, config.Config))
    file = config_file.load(endpoints, EndpointsFile)
    router.update_routers([_address(entry) for entry in file.routers])
    router.update(
        {
            revision: [_address(entry) for entry in found]
            for revision, found in file.revisions.items()
        }
    )


async def follow(
    router: Target,
    cluster: Cluster,
    *,
    namespace: str,
    name: str,
    chance: Callable[[], float],
    own: str,
) -> None:
    """Watch both on the API server until cancelled, and the Secrets that the configuration names.

    `own` is the name of this router's pod.
    """
    watches = KeyWatches(cluster, namespace=namespace, changed=router.update_keys, chance=chance)

    def complete(settings: config.Config) -> None:
        router.configure(settings)
        tokens = settings.engine_tokens
        owners = {tokens.secret: tokens.owner} if tokens else {}
        watches.follow(settings.watched_secrets, owners=owners)

    def configured(objects: Mapping[str, Manifest]) -> None:
        settings = _settings(objects[name]) if name in objects else None
        if settings is not None:
            parts.follow(settings)

    def moved(objects: Mapping[str, Manifest]) -> None:
        router.update_routers(slices.routers(objects.values(), own=own))
        router.update(slices.addresses(objects.values()))

    query = {"fieldSelector": f"metadata.name={name}"}
    path = _CONFIG_MAPS.format(namespace)
    parts = Parts(cluster, path, complete=complete, chance=chance)
    maps = Mirror(cluster, path, changed=configured, chance=chance, query=query)
    ours = {"labelSelector": slices.SELECTOR}
    endpoints = Mirror(cluster, _SLICES.format(namespace), changed=moved, chance=chance, query=ours)
    async with asyncio.TaskGroup() as group:
        group.create_task(watches.run())
        group.create_task(parts.run())
        group.create_task(maps.run())
        group.create_task(endpoints.run())


def _address(entry: EndpointEntry) -> Address:
    return Address(
        f"{entry.host}:{entry.port}", entry.host, entry.port, entry.management_port, entry.scheme
    )


def _settings(manifest: Manifest) -> config.Config | None:
    """Return the configuration of the ConfigMap; None if it is invalid."""
    try:
        text = manifest["data"][contract.ROUTER_CONFIG_KEY]
        settings = config.Config.model_validate(json.loads(text))
    except (KeyError, ValueError) as error:
        known = isinstance(error, pydantic.ValidationError)
        reason = (
            errors.describe(error)
            if known
            else f"no valid JSON in the key {contract.ROUTER_CONFIG_KEY}"
        )
        logs.failure("configuration refused", configMap=manifest["metadata"]["name"], reason=reason)
        return None
    logs.event("configured", version=manifest["metadata"].get("resourceVersion"))
    return settings
