"""Reads from each engine how much it has to do; one that is slow to tell delays no other."""

import asyncio
import contextlib
import math
import re
from collections.abc import Callable, Iterable
from typing import Final

import aiohttp

from slipstream_runtime import contract
from slipstream_runtime.router.balancing.endpoints import STALE_SECONDS, Endpoint, Load

PERIOD_SECONDS: Final = 1.0
_CHUNK_BYTES: Final = 1 << 16
_MOST_BYTES: Final = 4 << 20
"""Bytes of a page; that of vLLM with eight data-parallel engines has less than one MiB."""
_MOST_SEQUENCES: Final = 1 << 20
"""Sequences from this on are no number that an engine runs at once."""


def _series(name: str) -> re.Pattern[bytes]:
    return re.compile(rb"^" + name.encode() + rb"(?:\{[^\n]*\})? (\S+)", re.MULTILINE)


_WAITING: Final = _series(contract.WAITING)
_KV: Final = _series(contract.KV_USAGE)
_SEQUENCES: Final = _series(contract.SEQUENCES)


def parse(text: bytes, *, at: float) -> Load:
    """The load in a Prometheus text: waiting requests summed, the fullest cache, the sequences that run at once."""
    waiting, kv, sequences = (_values(series, text) for series in (_WAITING, _KV, _SEQUENCES))
    return Load(
        waiting=sum(waiting) if waiting else None,
        kv=max(kv, default=None),
        at=at,
        sequences=int(sequences[0]) if sequences and 1 <= sequences[0] < _MOST_SEQUENCES else None,
    )


def _values(series: re.Pattern[bytes], text: bytes) -> list[float]:
    """NaN and what is no number is not known, which is not zero."""
    found = []
    for value in series.findall(text):
        try:
            number = float(value)
        except ValueError:
            continue
        if math.isfinite(number):
            found.append(number)
    return found


class Scrapes:
    """One task for each engine; `grown` is called when one says that it takes more requests than before."""

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

    def follow(self, came: Iterable[Endpoint], gone: Iterable[Endpoint]) -> None:
        """Begin with the ones, end with the others."""
        for endpoint in gone:
            if (task := self._tasks.pop(endpoint, None)) is not None:
                task.cancel()
        for endpoint in came:
            self._tasks[endpoint] = asyncio.create_task(
                self._repeat(endpoint), name=f"scrape {endpoint.name}"
            )

    async def close(self) -> None:
        """End all."""
        tasks = [*self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _repeat(self, endpoint: Endpoint) -> None:
        while True:
            # NB: what an engine said last grows stale by itself.
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
    """Return the page; None if it has no end, which an engine of a tenant's own image may send."""
    page = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        page += chunk
        if len(page) > _MOST_BYTES:
            return None
    return bytes(page)
