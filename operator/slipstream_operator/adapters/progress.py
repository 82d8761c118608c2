"""Progress of downloads, read from their pods: it needs no right in the cluster, and nothing but the pod's address.

The answer is a tenant's: it is bounded in time and length, and only numbers of it are used.
"""

import asyncio
import ipaddress
import json
from typing import Final

import aiohttp

from slipstream_operator.core import fetching
from slipstream_runtime import contract

TIMEOUT: Final = 2.0
"""Seconds: a network policy may keep the pod out of reach, and the status must not wait for it."""
_LIMIT: Final = 4096
"""Bytes of an answer that are read."""


class Progress:
    """`ports.Progress` over HTTP."""

    async def read(self, address: str) -> fetching.Progress | None:
        """Return what the pod at this address counts; None if it does not answer soon."""
        try:
            host = ipaddress.ip_address(address)
            return fetching.parse_progress(json.loads(await _get(host)))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, RecursionError):
            return None


async def _get(host: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bytes:
    name = f"[{host}]" if host.version == 6 else str(host)
    url = f"http://{name}:{contract.MANAGEMENT_PORT}{contract.STATUS_PATH}"
    async with (
        asyncio.timeout(TIMEOUT),
        aiohttp.ClientSession() as session,
        session.get(url, allow_redirects=False) as answer,
    ):
        return await answer.content.read(_LIMIT)
