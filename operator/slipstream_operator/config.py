"""The operator's settings, from the environment; all mistakes are reported at once."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that the process is told from outside."""

    identity: str
    """Who this replica is, in the Lease and in Events: the pod's name."""
    namespace: str
    """Where the Lease lies: the pod's namespace."""
    port: int = 8080
    workers: int = 8
    tick: float = 5.0
    """Seconds between scaling decisions."""
    resync: float = 600.0
    """Seconds after which every service is looked at again, whatever happened."""

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> "Config":
        """Read SLIPSTREAM_* and the pod's POD_NAME and POD_NAMESPACE; ValueError lists every mistake."""
        problems = []

        def number(name: str, default: float, low: float, high: float) -> float:
            text = environment.get(name, "")
            try:
                value = float(text) if text else default
            except ValueError:
                value = -1.0
            if not low <= value <= high:
                problems.append(f'{name}: "{text}" must be a number from {low:g} to {high:g}')
            return value

        settings = cls(
            identity=environment.get("POD_NAME", ""),
            namespace=environment.get("POD_NAMESPACE", ""),
            port=int(number("SLIPSTREAM_PORT", cls.port, 1, 65535)),
            workers=int(number("SLIPSTREAM_WORKERS", cls.workers, 1, 256)),
            tick=number("SLIPSTREAM_TICK_SECONDS", cls.tick, 0.5, 300),
            resync=number("SLIPSTREAM_RESYNC_SECONDS", cls.resync, 10, 86400),
        )
        for name, value in (("POD_NAME", settings.identity), ("POD_NAMESPACE", settings.namespace)):
            if not value:
                problems.append(
                    f"{name}: is not set; the Deployment sets it from the pod's metadata"
                )
        if problems:
            raise ValueError("; ".join(problems))
        return settings
