"""Ids of stored responses: from an id, every router finds the replica that stores its response.

vLLM stores a response in the memory of the replica that made it, under the id that the request brings. So the router
chooses the id, with a mark of the replica and of the tenant. An id of another tenant thus names no replica.
"""

import hashlib
import re
import secrets
from collections.abc import Iterable
from typing import Final

FIELD: Final = "request_id"
"""Field of a request that vLLM uses as the id of the response."""
_RANDOM_BYTES: Final = 16
_MARK_BYTES: Final = 8
_ID: Final = re.compile(rf"resp_([0-9a-f]{{{2 * _RANDOM_BYTES}}})([0-9a-f]{{{2 * _MARK_BYTES}}})")


def new_id(*, replica: str, tenant: str) -> str:
    """Return an id for a response that this replica makes for the tenant."""
    text = secrets.token_hex(_RANDOM_BYTES)
    return f"resp_{text}{_mark(text, replica, tenant)}"


def holder(response_id: str, replicas: Iterable[str], *, tenant: str) -> str | None:
    """Return the replica that made the response for the tenant; None if it is none of these."""
    match = _ID.fullmatch(response_id)
    if match is None:
        return None
    text, mark = match[1], match[2]
    return next((name for name in replicas if _mark(text, name, tenant) == mark), None)


def _mark(text: str, replica: str, tenant: str) -> str:
    content = "\0".join((text, replica, tenant)).encode()
    return hashlib.blake2b(content, digest_size=_MARK_BYTES).hexdigest()
