"""Memory of a router pod, divided so that what its limits allow never exceeds its memory limit."""

import dataclasses
from decimal import Decimal
from typing import Any, Final

from slipstream_operator.api import units
from slipstream_operator.api.servingprofile import RouterSpec
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason

_MIB: Final = 2**20
BASE_BYTES: Final = 96 * _MIB
"""Bytes of a router and the connections of its clients; tests/router/test_one_client_against_others.py notices more."""
BODY_COPIES: Final = 2
"""Times that a body can be in memory: as bytes, and as parsed objects."""
BODIES_BYTES: Final = 128 * _MIB
"""Bytes of all bodies by default, as in the router."""
LEAST_BODIES_BYTES: Final = 16 * _MIB
"""Bytes of the largest body without media, which a router must be able to hold."""
_MEDIA_BYTES: Final = 64 * _MIB
"""Bytes of the largest body with media that engines accept."""
LIMIT_BYTES: Final = 512 * _MIB
"""Memory limit of a router by default."""
_LEAST_CACHES_BYTES: Final = 64 * _MIB
"""Bytes for responses that the default limit leaves: the default of cache.responses.size."""
_MEMORY: Final = "memory"


@dataclasses.dataclass(frozen=True)
class RouterMemory:
    """Bytes of one router pod."""

    limit: int
    """Memory limit; where the profile sets resources without one, the default."""
    bodies: int
    size: int | None
    """Largest body with media; None: the router's default."""
    caches: int
    """Responses of all services together."""


def divide(spec: RouterSpec, *, profile: str) -> RouterMemory:
    """Return the memory of a router; PermanentError if the limits of the profile allow more than it has."""
    given = _given(spec)
    asked = None if spec.body_memory is None else int(units.quantity(spec.body_memory))
    bodies = BODIES_BYTES if asked is None else asked
    least = BASE_BYTES + BODY_COPIES * bodies
    if given is None:
        limit = max(LIMIT_BYTES, least + _LEAST_CACHES_BYTES)
    else:
        limit = int(units.quantity(given))
        fits = (limit - BASE_BYTES) // BODY_COPIES
        if asked is None:
            bodies = min(bodies, fits)
        if bodies > fits or bodies < LEAST_BODIES_BYTES:
            raise _too_little(given, asked=spec.body_memory, profile=profile)
    size = None if spec.max_body_size is None else int(units.quantity(spec.max_body_size))
    if size is not None or bodies < BODIES_BYTES:
        size = min(bodies, size or _MEDIA_BYTES)
    return RouterMemory(limit, bodies, size, caches=limit - BASE_BYTES - BODY_COPIES * bodies)


def resources(spec: RouterSpec, default: dict[str, Any], *, profile: str) -> dict[str, Any]:
    """Return the resources of the router's container; the default limit grows with the limits of the profile."""
    if spec.resources is not None:
        return spec.resources.model_dump(by_alias=True, exclude_none=True)
    limit = divide(spec, profile=profile).limit
    return {**default, "limits": {**default["limits"], _MEMORY: _text(limit)}}


def check_cache(size: str, memory: RouterMemory, *, profile: str) -> None:
    """Refuse a response cache that no router can hold. The default size is never refused."""
    asked = units.quantity(size)
    if asked <= max(memory.caches, _LEAST_CACHES_BYTES):
        return
    raise PermanentError(
        Reason.LIMIT_EXCEEDED,
        f'spec.cache.responses.size: "{size}" can\'t work because a router pod has {_text(memory.limit)} of memory, of '
        f"which {_text(memory.caches)} are for the responses of all services. Use {_text(memory.caches)} or less, or "
        f"ask the platform team to raise router.resources.limits.memory of ServingProfile {profile} to "
        f"{_text(memory.limit - memory.caches + int(asked))}.",
    )


def _given(spec: RouterSpec) -> str | None:
    """Return the memory limit that the profile sets."""
    limits = spec.resources.limits if spec.resources else None
    return (limits or {}).get(_MEMORY)


def _too_little(given: str, *, asked: str | None, profile: str) -> PermanentError:
    bodies = LEAST_BODIES_BYTES if asked is None else int(units.quantity(asked))
    reason = (
        f"the smallest router needs {_text(BASE_BYTES)} and {BODY_COPIES} x {_text(bodies)} for bodies"
        if asked is None
        else f"router.bodyMemory: {asked} may take twice as much, and the router itself {_text(BASE_BYTES)}"
    )
    remedy = "" if asked is None else " or a smaller router.bodyMemory"
    return PermanentError(
        Reason.LIMIT_EXCEEDED,
        f'router.resources.limits.memory of ServingProfile {profile}: "{given}" can\'t work because {reason}. '
        f"Use {_text(BASE_BYTES + BODY_COPIES * bodies)} or more{remedy}.",
    )


def _text(size: int) -> str:
    """Return bytes as a quantity, rounded up to whole Mi."""
    mebibytes = -(-size // _MIB)
    return f"{Decimal(mebibytes)}Mi"
