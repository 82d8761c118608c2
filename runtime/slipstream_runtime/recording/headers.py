"""Headers between router and engine: the id of a request, by which its records belong together, and its prefix."""

import hashlib
import itertools
import re
import secrets
from collections.abc import Mapping
from typing import Final

REQUEST_ID: Final = "x-request-id"
VALID_ID: Final = re.compile(r"[A-Za-z0-9._:/+=@~-]{1,128}")
"""Ids of requests that engines may write to their logs."""
DIGEST_BYTES: Final = 8
"""Bytes of an id's digest: two of a million kept requests are the same with a chance of 1 in 30 million."""
PREFIX: Final = "x-slipstream-prefix"
"""Share of the prompt, from its start, that a replica of the service has read before, by the router's index."""
_OWN: Final = secrets.token_hex(8)
_NUMBERS: Final = itertools.count(1)


def request_id(headers: Mapping[str, str]) -> str:
    """Return the client's id of the request, or a new one."""
    return chosen(headers.get(REQUEST_ID))


def chosen(given: str | None) -> str:
    """Return the id if it is valid, or a new one."""
    if given is not None and VALID_ID.fullmatch(given):
        return given
    return f"{_OWN}-{next(_NUMBERS)}"


def digest(request_id: str) -> bytes:
    """Return bytes by which a request is found again. An id may hold what its client knows, so it is not kept."""
    return hashlib.blake2b(request_id.encode(), digest_size=DIGEST_BYTES).digest()


def known_prefix(value: str | None) -> float | None:
    """Return the share in the header `PREFIX`; None if it is missing or wrong."""
    try:
        share = float(value or "")
    except ValueError:
        return None
    return share if 0.0 <= share <= 1.0 else None
