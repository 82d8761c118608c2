"""Loads and unloads LoRA adapters while the engine runs, as the operator lists them.

It calls vLLM's own handlers; vLLM's routes for them stay closed. An adapter that can't be loaded is reported, and
affects nothing else. Everything runs on the event loop that serves, except the search for files.
"""

import asyncio
import functools
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import safetensors
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.entrypoints.serve.lora.protocol import LoadLoRAAdapterRequest, UnloadLoRAAdapterRequest

from slipstream_runtime import logs
from slipstream_runtime.engine import adapters
from slipstream_runtime.engine.config import Adapters
from slipstream_runtime.errors import EngineError, describe, one_line
from slipstream_runtime.host import status

_CHECK_SECONDS: Final = 5.0
"""Seconds between two checks of the list; the kubelet needs up to two minutes to update it."""
_RETRY_SECONDS: Final = 60.0
"""Seconds until a failed adapter is tried again; its volume was empty, or its hub not available."""


class AdapterLoader:
    """Loader that makes vLLM serve the listed adapters."""

    def __init__(
        self,
        config: Adapters,
        *,
        models: Any,
        current: dict[str, status.AdapterStatus],
        max_rank: int,
        model: Path,
        cache: Path,
        token: str | None,
        probe: Callable[[str], Awaitable[None]],
    ) -> None:
        self._config = config
        self._models = models
        self._current = current
        self._max_rank = max_rank
        self._model = model
        self._cache = cache
        self._token = token
        self._probe = probe
        self._links = Path(tempfile.mkdtemp(prefix="adapters-"))
        self._retry_at = 0.0
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load the listed adapters, and follow the list from then on."""
        await self.apply()
        self._following = asyncio.create_task(self._follow())

    def stop(self) -> None:
        """Stop following the list."""
        if self._following is not None:
            self._following.cancel()

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            await self.apply()

    async def apply(self) -> None:
        """Read the list once, and load and unload adapters accordingly."""
        try:
            listed = await asyncio.to_thread(adapters.wanted, self._config.file)
        except EngineError as error:
            logs.event("adapter list unreadable", reason=error.reason)
            return
        again = time.monotonic() >= self._retry_at
        steps = adapters.steps(self._current, listed, again=again)
        for name in steps.unload:
            await self._unload(name)
        for name, uri in steps.load.items():
            await self._load(name, uri)
        if again:
            self._retry_at = time.monotonic() + _RETRY_SECONDS

    async def _load(self, name: str, uri: str) -> None:
        try:
            found = await asyncio.to_thread(self._find, uri)
            path = adapters.path_of(found, uri, links=self._links)
            request = LoadLoRAAdapterRequest(lora_name=name, lora_path=str(path))
            answer = await self._models.load_lora_adapter(request)
            if isinstance(answer, ErrorResponse):
                raise EngineError(f"{uri}: {answer.error.message}")
            await self._probe(name)
        except Exception as error:
            # NB: whatever vLLM raises for a user's file, the model itself keeps serving.
            reason = error.reason if isinstance(error, EngineError) else describe(error)
            await self._drop(name)
            self._current[name] = status.AdapterStatus(uri, one_line(reason, limit=300))
            logs.event("adapter failed", adapter=name, uri=uri, reason=reason)
        else:
            self._current[name] = status.AdapterStatus(uri)
            logs.event("adapter loaded", adapter=name, uri=uri)

    def _find(self, uri: str) -> adapters.Found:
        found = adapters.find(uri, cache=self._cache, token=self._token)
        adapters.check_rank(found, uri=uri, max_rank=self._max_rank)
        try:
            adapters.check_base(adapters.shapes(found.folder), self._shapes, uri=uri)
        except (OSError, safetensors.SafetensorError) as error:
            raise EngineError(f"{uri}: {describe(error)}") from error
        return found

    @functools.cached_property
    def _shapes(self) -> Mapping[str, tuple[int, ...]]:
        return adapters.shapes(self._model)

    async def _unload(self, name: str) -> None:
        await self._drop(name)
        if self._current.pop(name).loaded:
            logs.event("adapter unloaded", adapter=name)

    async def _drop(self, name: str) -> None:
        """Unload an adapter; running requests keep it until they end, and vLLM answers new ones with 404."""
        if name in self._models.lora_requests:
            await self._models.unload_lora_adapter(UnloadLoRAAdapterRequest(lora_name=name))
