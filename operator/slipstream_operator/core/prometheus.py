"""Prometheus servers of ServingProfiles: where the operator queries, and who scrapes the pods."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from slipstream_operator.api import servingprofile, units
from slipstream_operator.api.prometheus import OperatorSecretKey
from slipstream_operator.core.observed import Manifest

RATE_WINDOW: Final = 60.0
"""Seconds that rates are taken over by default: four scrapes at the usual interval of 15 s."""

SecretKey: TypeAlias = tuple[str, str]
"""Name and key of a Secret in the operator's namespace."""


@dataclasses.dataclass(frozen=True)
class Server:
    """Prometheus that the operator queries. It names secrets and holds none."""

    url: str
    token: SecretKey | None = None
    """Bearer token."""
    ca: SecretKey | None = None
    """Certificates that sign the server's; None: those of public authorities."""
    headers: tuple[tuple[str, str | SecretKey], ...] = ()
    """Further headers of each request."""

    @property
    def secrets(self) -> bool:
        """Whether requests carry a Secret."""
        return self.token is not None or any(
            not isinstance(value, str) for _, value in self.headers
        )


@dataclasses.dataclass(frozen=True)
class Scraping:
    """Discovery of engines and routers by Prometheus."""

    by_pod_monitor: bool = False
    """Whether PodMonitors announce the pods, and no annotations."""
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Labels of the PodMonitors."""
    namespaces: Manifest | None = None
    """Selector of the namespaces from which metrics are scraped; None: by the URL of the server."""


def server(profile: servingprofile.ServingProfileSpec) -> tuple[Server, float] | None:
    """Return the server and the rate window in seconds; None if the profile names no server."""
    asked = profile.prometheus
    if asked is None:
        return None
    found = Server(
        url=asked.url.rstrip("/"),
        token=_key(asked.token_secret),
        ca=_key(asked.ca_secret),
        headers=tuple(
            (header.name, header.value or _key(header.secret) or "")
            for header in asked.headers or ()
        ),
    )
    return found, units.seconds(asked.window) if asked.window else RATE_WINDOW


def scraping(profile: servingprofile.ServingProfileSpec, *, pod_monitors: bool) -> Scraping:
    """Return how the pods are discovered; `pod_monitors` is whether the cluster has that kind."""
    asked = profile.prometheus
    if asked is None:
        return Scraping(by_pod_monitor=pod_monitors)
    chosen = asked.discovery or "PodMonitor"
    namespaces: dict[str, Any] | None = None
    if asked.scraper_namespaces is not None:
        namespaces = asked.scraper_namespaces.model_dump(by_alias=True, exclude_none=True)
    return Scraping(
        by_pod_monitor=pod_monitors and chosen == "PodMonitor",
        labels=asked.pod_monitor_labels or {},
        namespaces=namespaces,
    )


def _key(secret: OperatorSecretKey | None) -> SecretKey | None:
    return None if secret is None else (secret.name, secret.key)
