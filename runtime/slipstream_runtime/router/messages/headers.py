"""Headers that pass the router: those named here, and no others.

So nothing that steers a proxy or an engine, and no client's key, comes through by being forgotten in a list.
"""

from collections.abc import Mapping
from typing import Final

from multidict import CIMultiDict

SERVER: Final = "slipstream"
"""Not the library and its version."""
_TO_ENGINE: Final = ("content-type", "accept", "traceparent", "tracestate", "x-request-id")
_TO_CLIENT: Final = ("content-type", "cache-control", "retry-after", "x-request-id")


def engine_headers(given: Mapping[str, str], *, token: str | None) -> CIMultiDict[str]:
    """The headers of a client's request that the engine gets, and the router's own token."""
    named = _named_by_connection(given)
    headers = CIMultiDict(
        (name, value)
        for name in _TO_ENGINE
        # NB: what is no ASCII came in as bytes that no client library sends on.
        if (value := given.get(name)) is not None and name not in named and value.isascii()
    )
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    return headers


def client_headers(given: Mapping[str, str]) -> CIMultiDict[str]:
    """The headers of an engine's answer that the client gets."""
    headers = CIMultiDict((name, given[name]) for name in _TO_CLIENT if name in given)
    headers["server"] = SERVER
    return headers


def _named_by_connection(given: Mapping[str, str]) -> frozenset[str]:
    connection = given.get("connection")
    if connection is None:
        return frozenset()
    named = {name.strip().lower() for name in connection.split(",")}
    return frozenset(named - {"content-type"})
