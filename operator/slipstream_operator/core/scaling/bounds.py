"""Bounds of the replica count."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Bounds of the replica count; equal bounds mean a fixed count."""

    minimum: int
    maximum: int
    follows_load: bool
    paused: bool = False
    recommend: bool = False
    idle_after: float | None = None
    """Seconds without requests after which the service scales to zero; only with a minimum of 0."""
