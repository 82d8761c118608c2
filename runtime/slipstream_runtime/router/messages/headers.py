"""Headers that the router forwards: an allow-list.

A header that controls a proxy or an engine, or a client's key, is thus never forwarded by mistake.
"""

from collections.abc import Mapping
from typing import Final

from multidict import CIMultiDict

SERVER: Final = "slipstream"
"""Header `server`, without the library and its version."""
_TO_ENGINE: Final = (
    "content-type",
    "accept",
    "traceparent",
    "tracestate",
    "x-request-id",
    "anthropic-version",
    "anthropic-beta",
)
_TO_CLIENT: Final = ("content-type", "cache-control", "retry-after", "x-request-id")


def engine_headers(
    given: Mapping[str, str], *, token: str | None, content_type: str | None = None
) -> CIMultiDict[str]:
    """Return the headers of a client's request for the engine, with the router's own token.

    `content_type` replaces the client's if the router wrote the body again.
    """
    named = _named_by_connection(given)
    headers = CIMultiDict(
        (name, value)
        for name in _TO_ENGINE
        # NB: aiohttp can't send a value that is not ASCII.
        if (value := given.get(name)) is not None and name not in named and value.isascii()
    )
    if content_type is not None:
        headers["content-type"] = content_type
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    return headers


def client_headers(given: Mapping[str, str]) -> CIMultiDict[str]:
    """Return the headers of an engine's answer for the client."""
    headers = CIMultiDict((name, given[name]) for name in _TO_CLIENT if name in given)
    headers["server"] = SERVER
    return headers


def _named_by_connection(given: Mapping[str, str]) -> frozenset[str]:
    connection = given.get("connection")
    if connection is None:
        return frozenset()
    named = {name.strip().lower() for name in connection.split(",")}
    return frozenset(named - {"content-type"})
