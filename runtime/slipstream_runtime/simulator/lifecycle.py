"""Lifecycle of a simulated engine, and its requests in flight."""

import asyncio
import enum

from slipstream_runtime.web.waiting import happens


class Phase(enum.Enum):
    """Phase of a pod; a later phase never goes back to an earlier one."""

    LOADING = "loading"
    READY = "ready"
    LEAVING = "leaving"
    DRAINING = "draining"


class Lifecycle:
    """Lifecycle that admits requests, also while clients have not noticed the shutdown, and counts those in flight."""

    def __init__(self, *, cold_start: float, started: float) -> None:
        self.ready_at = started + cold_start
        self.phase = Phase.LOADING
        self.in_flight = 0
        self.stopped = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    async def warm_up(self) -> None:
        """Become ready when the cold start is over, unless the pod was stopped before."""
        await asyncio.sleep(self.ready_at - asyncio.get_running_loop().time())
        if self.phase is Phase.LOADING:
            self.phase = Phase.READY

    @property
    def leaving(self) -> bool:
        """Whether the pod is shutting down."""
        return self.phase in (Phase.LEAVING, Phase.DRAINING)

    def stop(self) -> None:
        """Start to shut down: a ready pod still serves new requests, and a loading pod still refuses them."""
        if self.phase is Phase.READY:
            self.phase = Phase.LEAVING
        self.stopped.set()

    def drain(self) -> None:
        """Refuse new requests from now on."""
        self.phase = Phase.DRAINING

    def enter(self) -> bool:
        """Count a new request, or return False if the pod refuses it; after True, the caller calls `leave`."""
        if self.phase not in (Phase.READY, Phase.LEAVING):
            return False
        self.in_flight += 1
        self._empty.clear()
        return True

    def leave(self) -> None:
        """Count a request as complete."""
        self.in_flight -= 1
        if not self.in_flight:
            self._empty.set()

    async def emptied(self, *, within: float) -> bool:
        """Wait until no request is in flight; return False after `within` seconds."""
        return await happens(self._empty, within=within)
