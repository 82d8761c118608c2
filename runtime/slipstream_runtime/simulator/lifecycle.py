"""Lifecycle of a simulator pod, and the requests that it still has."""

import asyncio
import enum

from slipstream_runtime.web.waiting import happens


class Phase(enum.Enum):
    """Forward only: a pod that leaves never becomes ready again."""

    LOADING = "loading"
    READY = "ready"
    LEAVING = "leaving"
    DRAINING = "draining"


class Lifecycle:
    """Admits requests, those of clients that have not noticed the end too, and counts those in flight."""

    def __init__(self, *, cold_start: float, started: float) -> None:
        self.ready_at = started + cold_start
        self.phase = Phase.LOADING
        self.in_flight = 0
        self.stopped = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    async def warm_up(self) -> None:
        """Become ready when the cold start is over, unless stopped by then."""
        await asyncio.sleep(self.ready_at - asyncio.get_running_loop().time())
        if self.phase is Phase.LOADING:
            self.phase = Phase.READY

    @property
    def leaving(self) -> bool:
        """Whether the pod is on its way out."""
        return self.phase in (Phase.LEAVING, Phase.DRAINING)

    def stop(self) -> None:
        """Begin to leave: a ready pod serves what still comes, one that loads refuses it as before."""
        if self.phase is Phase.READY:
            self.phase = Phase.LEAVING
        self.stopped.set()

    def drain(self) -> None:
        """Refuse whatever comes from now on."""
        self.phase = Phase.DRAINING

    def enter(self) -> bool:
        """Count a request in, if the pod takes any; whoever gets True calls `leave`."""
        if self.phase not in (Phase.READY, Phase.LEAVING):
            return False
        self.in_flight += 1
        self._empty.clear()
        return True

    def leave(self) -> None:
        """Count a request out."""
        self.in_flight -= 1
        if not self.in_flight:
            self._empty.set()

    async def emptied(self, *, within: float) -> bool:
        """Wait until nothing is in flight; False if that takes longer than `within` seconds."""
        return await happens(self._empty, within=within)
