"""Settings of the operator, from environment variables. All errors are reported together."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Final

_NAMESPACE: Final = re.compile("[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one process."""

    identity: str
    """Name of the pod, which identifies this replica in the Lease and in Events."""
    namespace: str
    """Namespace of the pod and of the Lease."""
    port: int = 8080
    """Port of the probes and metrics."""
    workers: int = 8
    """Reconciles that run at once."""
    tick: float = 5.0
    """Seconds between scaling decisions."""
    resync: float = 600.0
    """Seconds between two reconciles of every service without an event."""
    namespaces: tuple[str, ...] = ()
    """Namespaces whose services this operator runs; empty for those of the whole cluster."""

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> "Config":
        """Read SLIPSTREAM_*, POD_NAME and POD_NAMESPACE; raise a ValueError that lists every error."""
        problems = []

        def number(name: str, default: float, low: float, high: float) -> float:
            text = environment.get(name, "")
            try:
                value = float(text) if text else default
            except ValueError:
                value = -1.0
            if not low <= value <= high:
                problems.append(f'{name}: "{text}" is not a number from {low:g} to {high:g}.')
            return value

        settings = cls(
            identity=environment.get("POD_NAME", ""),
            namespace=environment.get("POD_NAMESPACE", ""),
            port=int(number("SLIPSTREAM_PORT", cls.port, 1, 65535)),
            workers=int(number("SLIPSTREAM_WORKERS", cls.workers, 1, 256)),
            tick=number("SLIPSTREAM_TICK_SECONDS", cls.tick, 0.5, 300),
            resync=number("SLIPSTREAM_RESYNC_SECONDS", cls.resync, 10, 86400),
            namespaces=_namespaces(environment.get("SLIPSTREAM_NAMESPACES", "")),
        )
        problems += [
            f'SLIPSTREAM_NAMESPACES: "{name}" is not the name of a namespace. List names, separated by commas.'
            for name in settings.namespaces
            if not _NAMESPACE.fullmatch(name)
        ]
        for name, value in (("POD_NAME", settings.identity), ("POD_NAMESPACE", settings.namespace)):
            if not value:
                problems.append(
                    f"{name}: not set. Set it from the pod's metadata, as the Deployment does."
                )
        if problems:
            raise ValueError(" ".join(problems))
        return settings


def _namespaces(text: str) -> tuple[str, ...]:
    return tuple(sorted({name.strip() for name in text.split(",") if name.strip()}))
