"""Headers that the router forwards: an allow-list.

A header that controls a proxy or an engine, or a client's key, is thus never forwarded by mistake.
"""

import re
from collections.abc import Mapping
from typing import Final

from multidict import CIMultiDict

from slipstream_runtime.recording.headers import PREFIX, REQUEST_ID

SERVER: Final = "slipstream"
"""Header `server`, without the library and its version."""
_TO_ENGINE: Final = (
    "content-type",
    "accept",
    "traceparent",
    "tracestate",
    "anthropic-version",
    "anthropic-beta",
)
_MOST_CHARACTERS: Final = 512
"""Characters of a forwarded header; `tracestate` may have as many."""
_TYPES: Final = re.compile(
    r"(application/(json|octet-stream|x-ndjson)|text/(event-stream|plain|vtt)|audio/[a-z0-9.+-]+)(\s*;.*)?",
    re.IGNORECASE,
)
"""Types of answers, none of which makes a browser run what the answer holds."""
_USUAL: Final = ("application/json", "text/event-stream")
_EVENTS: Final = "text/event-stream;"
_BYTES: Final = "application/octet-stream"
VECTORS: Final = "metadata"
"""Header in which vLLM describes vectors that it sends as bytes, with the usage."""
_TO_CLIENT: Final = ("content-type", "cache-control", "retry-after", "x-request-id", VECTORS)


def engine_headers(
    given: Mapping[str, str],
    *,
    token: str | None,
    request_id: str | None = None,
    content_type: str | None = None,
    known_prefix: float | None = None,
) -> CIMultiDict[str]:
    """Return the headers of a client's request for the engine, with the router's own token.

    `request_id` is its valid id, or a new one. `content_type` replaces the client's if the router wrote the body again.
    `known_prefix` is the share of the prompt that a replica has read before.
    """
    named = _named_by_connection(given)
    headers = CIMultiDict(
        (name, value)
        for name in _TO_ENGINE
        if (value := given.get(name)) is not None and name not in named and _passes(name, value)
    )
    if request_id is not None:
        headers[REQUEST_ID] = request_id
    if content_type is not None:
        headers["content-type"] = content_type
    if known_prefix is not None:
        headers[PREFIX] = f"{known_prefix:.3f}"
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    return headers


def client_headers(given: Mapping[str, str]) -> CIMultiDict[str]:
    """Return the headers of an engine's answer for the client."""
    headers = CIMultiDict((name, given[name]) for name in _TO_CLIENT if name in given)
    headers["server"] = SERVER
    kind = headers.get("content-type", "")
    # NB: no browser takes JSON or events for anything else; most answers are of these types.
    if kind not in _USUAL and not kind.startswith(_EVENTS):
        headers["x-content-type-options"] = "nosniff"
        if kind and not _TYPES.fullmatch(kind):
            headers["content-type"] = _BYTES
    return headers


def _passes(name: str, value: str) -> bool:
    """Whether an engine may read the value. NB: aiohttp can't send one that is not ASCII."""
    return len(value) <= _MOST_CHARACTERS and value.isascii()


def _named_by_connection(given: Mapping[str, str]) -> frozenset[str]:
    connection = given.get("connection")
    if connection is None:
        return frozenset()
    named = {name.strip().lower() for name in connection.split(",")}
    return frozenset(named - {"content-type"})
