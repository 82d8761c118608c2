"""Scrapes of the engines' load; a slow engine delays no other."""

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterable
from typing import Final

import aiohttp

from slipstream_runtime import contract
from slipstream_runtime.router.balancing.endpoints import STALE_SECONDS, Endpoint, Load

PERIOD_SECONDS: Final = 1.0
_CHUNK_BYTES: Final = 1 << 16
_MOST_BYTES: Final = 4 << 20
"""Most bytes of a metrics page; vLLM with eight data-parallel engines has less than 1 MiB."""
_MOST: Final = 1e9
"""Largest plausible number of waiting requests."""
_MOST_SEQUENCES: Final = 1 << 20
"""Batch sizes from this one on are not plausible."""


def _series(name: str) -> re.Pattern[bytes]:
    return re.compile(rb"^" + name.encode() + rb"(?:\{[^\n]*\})? (\S+)", re.MULTILINE)


_WAITING: Final = _series(contract.WAITING)
_KV: Final = _series(contract.KV_USAGE)
_SEQUENCES: Final = _series(contract.SEQUENCES)


def parse(text: bytes, *, at: float) -> Load:
    """Return the load in a Prometheus text: the sum of waiting requests, the fullest KV cache, the batch size."""
    waiting, kv, sequences = (_values(series, text) for series in (_WAITING, _KV, _SEQUENCES))
    return Load(
        waiting=sum(waiting) if waiting else None,
        kv=max(kv, default=None),
        at=at,
        sequences=int(sequences[0]) if sequences and 1 <= sequences[0] < _MOST_SEQUENCES else None,
    )


def _values(series: re.Pattern[bytes], text: bytes) -> list[float]:
    """Return the plausible values; all others are unknown, not zero. NaN fails every comparison."""
    found = []
    for value in series.findall(text):
        try:
            number = float(value)
        except ValueError:
            continue
        if 0 <= number <= _MOST:
            found.append(number)
    return found


class Scrapes:
    """Scrape tasks, one per engine; `grown` is called when an engine reports more slots than before."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        clock: Callable[[], float],
        grown: Callable[[], None],
        period: float = PERIOD_SECONDS,
    ) -> None:
        self._session = session
        self._clock = clock
        self._grown = grown
        self._period = period
        self._tasks: dict[Endpoint, asyncio.Task[None]] = {}

    def follow(self, added: Iterable[Endpoint], removed: Iterable[Endpoint]) -> None:
        """Start scrapes of new engines, and stop those of engines that are gone."""
        for endpoint in removed:
            if (task := self._tasks.pop(endpoint, None)) is not None:
                task.cancel()
        for endpoint in added:
            self._tasks[endpoint] = asyncio.create_task(
                self._repeat(endpoint), name=f"scrape {endpoint.name}"
            )

    async def close(self) -> None:
        """Stop all scrapes."""
        tasks = [*self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _repeat(self, endpoint: Endpoint) -> None:
        while True:
            # NB: a failed scrape needs no handling: the last load becomes stale.
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                await self._once(endpoint)
            await asyncio.sleep(self._period)

    async def _once(self, endpoint: Endpoint) -> None:
        timeout = aiohttp.ClientTimeout(total=STALE_SECONDS)
        url = endpoint.address.metrics_url()
        async with self._session.get(url, timeout=timeout, allow_redirects=False) as response:
            if response.status != 200 or (page := await _page(response)) is None:
                return
            if endpoint.report(parse(page, at=self._clock())):
                self._grown()


async def _page(response: aiohttp.ClientResponse) -> bytes | None:
    """Return the page; None if it is too large, as a tenant's own image may send it."""
    page = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        page += chunk
        if len(page) > _MOST_BYTES:
            return None
    return bytes(page)
