"""Cross-origin requests of browsers: the origins that a service allows, and the headers that say so."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

ANY: Final = "*"
_MAX_AGE_SECONDS: Final = "600"
"""Seconds for which a browser keeps the answer to a preflight; Chromium keeps one for two hours at most."""
_EXPOSED: Final = "retry-after, x-request-id, x-cache"
"""Headers that scripts may read, besides the ones that every script may."""
_NAMES: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, -]{1,4096}")


def allows(allowed: Iterable[str], origin: str) -> bool:
    """Whether one of the allowed origins is this one; `*.` stands for one or more labels of a host."""
    return any(_matches(pattern, origin) for pattern in allowed)


def headers(allowed: Iterable[str], origin: str) -> Mapping[str, str]:
    """Return the headers of an answer to this origin; none if it is not allowed."""
    patterns = tuple(allowed)
    if not allows(patterns, origin):
        return {}
    everyone = ANY in patterns
    return {
        "access-control-allow-origin": ANY if everyone else origin,
        "access-control-expose-headers": _EXPOSED,
        **({} if everyone else {"vary": "Origin"}),
    }


def preflight(
    allowed: Iterable[str], origin: str, *, method: str, asked: str | None
) -> Mapping[str, str]:
    """Return the headers of the answer to a preflight for `method`; none if the origin is not allowed.

    `asked` are the headers that the browser wants to send. All are allowed: the router forwards an allow-list.
    """
    found = headers(allowed, origin)
    if not found:
        return {}
    more = {"access-control-allow-methods": method, "access-control-max-age": _MAX_AGE_SECONDS}
    if asked is not None and _NAMES.fullmatch(asked):
        more["access-control-allow-headers"] = asked
    return {**found, **more}


def _matches(pattern: str, origin: str) -> bool:
    if pattern in (ANY, origin):
        return True
    scheme, star, domain = pattern.partition("://*.")
    return bool(star) and origin.startswith(f"{scheme}://") and origin.endswith(f".{domain}")
