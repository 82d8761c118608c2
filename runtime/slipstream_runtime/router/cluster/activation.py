"""Activation of services at zero: renews one Lease per service while its requests wait for a first engine."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Final

from slipstream_runtime import errors, logs
from slipstream_runtime.router.service import Service

PERIOD_SECONDS: Final = 1.0
_MOST_SECONDS: Final = 15.0
"""Longest pause, in seconds, between two attempts while the API server refuses."""

Renew = Callable[[str], Awaitable[None]]
"""Callback that renews the Lease of this name, and raises if that fails."""


class Activator:
    """Tasks that renew Leases; one for each service whose requests wait."""

    def __init__(
        self, renew: Renew, *, clock: Callable[[], float], period: float = PERIOD_SECONDS
    ) -> None:
        self._renew = renew
        self._clock = clock
        self._period = period
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._last: dict[str, float] = {}

    def activate(self, service: Service) -> None:
        """Renew the service's Lease once, and again until it has an engine or no request waits."""
        lease = service.settings.activation
        if lease is not None and lease not in self._tasks:
            task = asyncio.create_task(self._repeat(lease, service), name=f"activation {lease}")
            self._tasks[lease] = task
            task.add_done_callback(lambda _: self._tasks.pop(lease, None))

    async def close(self) -> None:
        """Stop all renewals."""
        tasks = [*self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _repeat(self, lease: str, service: Service) -> None:
        pause = self._period
        while True:
            # NB: the pause also limits the rate when the last engine comes and goes.
            await asyncio.sleep(self._last.get(lease, -math.inf) + pause - self._clock())
            self._last[lease] = self._clock()
            try:
                await self._renew(lease)
            except Exception as error:
                logs.failure("activation failed", lease=lease, reason=errors.describe(error))
                pause = min(_MOST_SECONDS, 2 * pause)
            else:
                service.metrics.activations.inc()
                pause = self._period
            if not service.starving:
                return
