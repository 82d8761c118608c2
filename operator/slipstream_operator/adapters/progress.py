"""Progress of downloads and builds, read over HTTP from the address of their pods, without rights in the cluster.

The answer comes from a tenant's pod, so its time and length are limited, and only its numbers are used.
"""

import asyncio
import ipaddress
import json
import time
from typing import Final

import aiohttp

from slipstream_operator.core import fetching
from slipstream_operator.core.builds import reports
from slipstream_runtime import contract

TIMEOUT: Final = 2.0
"""Seconds for one answer. A network policy may block the pod, and the status must not wait for it."""
AT_ONCE: Final = 2
"""Pods that are read at once. Each read blocks one of the workers that all services share."""
PAUSE: Final = 60.0
"""Seconds until a pod that did not answer in time is read again."""
_LIMIT: Final = 4096
"""Bytes of an answer that are read."""


class Progress:
    """`ports.Progress` over HTTP."""

    def __init__(self) -> None:
        self._reading = 0
        self._silent: dict[str, float] = {}
        """Address -> time from which it is read again, on the monotonic clock."""

    async def read(self, address: str) -> fetching.Progress | None:
        """Return the progress of the pod at this address; None without an answer in time, or while others are read."""
        answer = await self._read(address)
        return None if answer is None else fetching.parse_progress(answer)

    async def stage(self, address: str) -> reports.Progress | None:
        """Return the progress of the stage of a build; None without an answer in time, or while others are read."""
        answer = await self._read(address)
        return None if answer is None else reports.parse_progress(answer)

    async def _read(self, address: str) -> object:
        """Return the answer of the pod; None without one."""
        now = time.monotonic()
        self._silent = {one: until for one, until in self._silent.items() if until > now}
        if address in self._silent or self._reading >= AT_ONCE:
            return None
        self._reading += 1
        try:
            answer: object = json.loads(await _get(ipaddress.ip_address(address)))
            return answer
        except TimeoutError:
            self._silent[address] = now + PAUSE
            return None
        except (aiohttp.ClientError, OSError, ValueError, RecursionError):
            return None
        finally:
            self._reading -= 1


async def _get(host: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bytes:
    name = f"[{host}]" if host.version == 6 else str(host)
    url = f"http://{name}:{contract.MANAGEMENT_PORT}{contract.STATUS_PATH}"
    async with (
        asyncio.timeout(TIMEOUT),
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.get(url, allow_redirects=False) as answer,
    ):
        return await answer.content.read(_LIMIT)
