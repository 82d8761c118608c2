"""Queue of requests that wait for a slot: bounded in number and bytes, ordered by priority and arrival."""

import asyncio
import bisect
from collections.abc import Callable

from slipstream_runtime.router.balancing.endpoints import Endpoint
from slipstream_runtime.router.messages import refusals
from slipstream_runtime.router.messages.request import Request
from slipstream_runtime.web.refusal import Refusal


class Waiter:
    """One waiting request; `slot` yields the engine that has a free slot for it."""

    def __init__(self, request: Request, *, tried: set[Endpoint]) -> None:
        self.request = request
        self.tried = tried
        self.slot: asyncio.Future[Endpoint] = asyncio.get_running_loop().create_future()
        self.rank = (0, 0)


class RequestQueue:
    """Waiting requests of one service."""

    def __init__(self) -> None:
        self.max_requests = 0
        self.max_bytes = 0
        self._waiters: list[Waiter] = []
        self._bytes = 0
        self._count = 0

    def __len__(self) -> int:
        return len(self._waiters)

    def __getitem__(self, index: int) -> Waiter:
        return self._waiters[index]

    def add(self, waiter: Waiter) -> None:
        """Add a waiter; a full queue sheds waiters of lower priority, or refuses the new one."""
        size = len(waiter.request.raw)
        while len(self._waiters) >= self.max_requests or self._bytes + size > self.max_bytes:
            last = self._waiters[-1] if self._waiters else None
            if last is None or last.request.priority >= waiter.request.priority:
                raise refusals.queue_full()
            self.reject(last, refusals.shed())
        self._count += 1
        waiter.rank = (-waiter.request.priority, self._count)
        bisect.insort(self._waiters, waiter, key=lambda each: each.rank)
        self._bytes += size

    def reject(self, waiter: Waiter, refusal: Refusal) -> None:
        """Remove the waiter and refuse its request."""
        self.remove(waiter)
        if not waiter.slot.done():
            waiter.slot.set_exception(refusal)

    def reject_lost(self, named: Callable[[str], Endpoint | None]) -> None:
        """Refuse the requests that continue a response whose engine is gone; `named` finds an engine by its pod."""
        for waiter in [*self._waiters]:
            replica = waiter.request.replica
            if replica is not None and named(replica) is None:
                previous = str(waiter.request.content.get("previous_response_id"))
                self.reject(waiter, refusals.no_response(previous, param="previous_response_id"))

    def remove(self, waiter: Waiter) -> None:
        """Remove the waiter, if it is in the queue."""
        at = bisect.bisect_left(self._waiters, waiter.rank, key=lambda each: each.rank)
        if at < len(self._waiters) and self._waiters[at] is waiter:
            del self._waiters[at]
            self._bytes -= len(waiter.request.raw)
