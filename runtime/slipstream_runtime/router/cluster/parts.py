"""Parts of a configuration that one ConfigMap could not hold."""

import asyncio
import json
from collections.abc import Callable
from typing import Final

import aiohttp

from slipstream_runtime import contract, errors, logs
from slipstream_runtime.router.cluster.client import Cluster
from slipstream_runtime.router.config import Config, Entries

_BACK_OFF: Final = (0.1, 30.0)
"""Shortest and longest pause after a failure, in seconds."""


class Parts:
    """Reads the parts that a configuration names; until all are there, the configuration before it stays."""

    def __init__(
        self,
        cluster: Cluster,
        path: str,
        *,
        complete: Callable[[Config], None],
        chance: Callable[[], float],
    ) -> None:
        self._cluster = cluster
        self._path = path
        self._complete = complete
        self._chance = chance
        self._wanted: Config | None = None
        self._renewed = asyncio.Event()
        self._read: dict[str, Entries] = {}

    def follow(self, settings: Config) -> None:
        """Apply this configuration once all its parts are there; at once if it has none."""
        self._wanted = settings if settings.parts else None
        if self._wanted is None:
            self._read.clear()
            self._complete(settings)
        else:
            self._renewed.set()

    async def run(self) -> None:
        """Read parts until cancelled."""
        while True:
            await self._renewed.wait()
            self._renewed.clear()
            pause, most = _BACK_OFF
            while (settings := self._wanted) is not None and not self._renewed.is_set():
                try:
                    found = [await self._part(name) for name in settings.parts]
                except (
                    aiohttp.ClientError,
                    TimeoutError,
                    OSError,
                    ValueError,
                    LookupError,
                ) as error:
                    logs.event("part not read", path=self._path, error=errors.describe(error))
                    await asyncio.sleep(pause * (0.5 + self._chance()))
                    pause = min(most, 2 * pause)
                    continue
                if self._wanted is settings:
                    self._wanted = None
                    self._read = {name: self._read[name] for name in settings.parts}
                    self._complete(settings.with_entries(found))

    async def _part(self, name: str) -> Entries:
        if name not in self._read:
            manifest = await self._cluster.get(f"{self._path}/{name}")
            text = manifest["data"][contract.ROUTER_CONFIG_KEY]
            self._read[name] = Entries.model_validate(json.loads(text))
        return self._read[name]
