"""Waits that last as long as progress is made, so that a slow machine only takes longer."""

import asyncio
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from dev.errors import DevError


@dataclass
class Patience:
    """Deadline that every change of the observed state extends by `seconds`."""

    seconds: float
    clock: Callable[[], float] = time.monotonic
    _state: Hashable = None
    _since: float = field(init=False)

    def __post_init__(self) -> None:
        self._since = self.clock()

    def observe(self, state: Hashable) -> None:
        """Start the wait over if the state differs from the last one."""
        if state != self._state:
            self._state, self._since = state, self.clock()

    @property
    def over(self) -> bool:
        """Whether nothing has changed for the whole time."""
        return self.clock() - self._since >= self.seconds


async def follow(
    observe: Callable[[], Hashable],
    done: Callable[[], bool],
    *,
    patience: Patience,
    what: Callable[[], str],
    remedy: str,
    interval: float = 1.0,
) -> None:
    """Observe in a thread until done; raise DevError when nothing has changed for too long."""
    while True:
        patience.observe(await asyncio.to_thread(observe))
        if done():
            return
        if patience.over:
            raise DevError(
                f"nothing has changed for {patience.seconds:.0f} s. {what()}", remedy=remedy
            )
        await asyncio.sleep(interval)
