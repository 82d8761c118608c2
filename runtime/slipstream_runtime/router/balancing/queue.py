"""Queue of requests that wait for a slot: bounded in number and bytes, ordered by priority, turn and arrival.

Each tenant of a priority has a line of its own. A full queue makes room in the longest line, so no tenant fills it.
"""

import asyncio
import bisect
from collections.abc import Callable, Iterator

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
        self.number = 0
        """Number by arrival."""
        self.size = len(request.raw)
        """Bytes."""


class _Line:
    """Waiting requests of one tenant and one priority, by arrival."""

    def __init__(self) -> None:
        self.waiters: list[Waiter] = []
        self.size = 0

    def add(self, waiter: Waiter) -> None:
        self.waiters.append(waiter)
        self.size += waiter.size

    def remove(self, waiter: Waiter) -> bool:
        at = bisect.bisect_left(self.waiters, waiter.number, key=_number)
        if at == len(self.waiters) or self.waiters[at] is not waiter:
            return False
        del self.waiters[at]
        self.size -= waiter.size
        return True


_Lines = dict[str, _Line]


class RequestQueue:
    """Waiting requests of one service."""

    def __init__(self) -> None:
        self.max_requests = 0
        self.max_bytes = 0
        self._lines: dict[int, _Lines] = {}
        """By priority and tenant; no line is empty."""
        self._length = 0
        self._bytes = 0
        self._count = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Waiter]:
        """Yield all waiters by priority and arrival."""
        for priority in self._priorities():
            lines = self._lines[priority].values()
            yield from sorted((w for line in lines for w in line.waiters), key=_number)

    def tenants(self) -> set[str]:
        """Return the tenants whose requests wait."""
        return {tenant for lines in self._lines.values() for tenant in lines}

    def in_turn(
        self, *, rank: Callable[[str], tuple[int, int]], admits: Callable[[str, int], bool]
    ) -> Iterator[Waiter]:
        """Yield the waiters by priority; of one priority, first the oldest of the tenant with the least rank.

        The caller removes a waiter that got a slot, before it asks for the next one. Tenants that are not admitted are
        left out.
        """
        for priority in self._priorities():
            lines = self._lines[priority]
            passed = dict.fromkeys(lines, 0)
            while passed:
                tenant = min(passed, key=rank)
                line, at = lines.get(tenant), passed[tenant]
                if line is None or at >= len(line.waiters) or not admits(tenant, priority):
                    del passed[tenant]
                    continue
                waiter = line.waiters[at]
                yield waiter
                if at < len(line.waiters) and line.waiters[at] is waiter:
                    passed[tenant] += 1

    def add(self, waiter: Waiter) -> None:
        """Add a waiter; a full queue refuses it, or waiters of lower priority, or of a tenant with more of them."""
        if waiter.size > self.max_bytes or not self.max_requests:
            raise refusals.queue_full()
        for refused, refusal in _Room(self, waiter).made():
            self.reject(refused, refusal)
        self._count += 1
        waiter.number = self._count
        lines = self._lines.setdefault(waiter.request.priority, {})
        lines.setdefault(waiter.request.client, _Line()).add(waiter)
        self._length += 1
        self._bytes += waiter.size

    def reject(self, waiter: Waiter, refusal: Refusal) -> None:
        """Remove the waiter and refuse its request."""
        self.remove(waiter)
        if not waiter.slot.done():
            waiter.slot.set_exception(refusal)

    def reject_all(self, refusal: Refusal) -> None:
        """Refuse all waiting requests."""
        for waiter in [*self]:
            self.reject(waiter, refusal)

    def reject_lost(self, named: Callable[[str], Endpoint | None]) -> None:
        """Refuse the requests that continue a response whose engine is gone; `named` finds an engine by its pod."""
        for waiter in [*self]:
            replica = waiter.request.replica
            if replica is not None and named(replica) is None:
                previous = str(waiter.request.content.get("previous_response_id"))
                self.reject(waiter, refusals.no_response(previous, param="previous_response_id"))

    def remove(self, waiter: Waiter) -> None:
        """Remove the waiter, if it is in the queue."""
        priority, tenant = waiter.request.priority, waiter.request.client
        lines = self._lines.get(priority)
        line = None if lines is None else lines.get(tenant)
        if lines is None or line is None or not line.remove(waiter):
            return
        self._length -= 1
        self._bytes -= waiter.size
        if not line.waiters:
            del lines[tenant]
            if not lines:
                del self._lines[priority]

    def _priorities(self) -> list[int]:
        return sorted(self._lines, reverse=True)


class _Room:
    """Room that waiters must make in a full queue for a new one."""

    def __init__(self, queue: RequestQueue, new: Waiter) -> None:
        self._lines = queue._lines
        self._new = new
        self._requests = len(queue) + 1 - queue.max_requests
        """Requests that are too many."""
        self._bytes = queue._bytes + new.size - queue.max_bytes
        """Bytes that are too many."""
        self._refused: list[tuple[Waiter, Refusal]] = []

    def made(self) -> list[tuple[Waiter, Refusal]]:
        """Return the waiters that make room, and their refusals; Refusal if none may."""
        if self._lacks:
            for priority in sorted(self._lines):
                self._refuse_of(priority)
                if not self._lacks:
                    return self._refused
            raise refusals.queue_full()
        return self._refused

    @property
    def _lacks(self) -> bool:
        return self._requests > 0 or self._bytes > 0

    def _refuse_of(self, priority: int) -> None:
        """Refuse the last waiters of the longest lines of one priority, as long as room lacks."""
        new = self._new
        if priority > new.request.priority:
            return
        left = {tenant: [*line.waiters] for tenant, line in self._lines[priority].items()}
        sizes = {tenant: line.size for tenant, line in self._lines[priority].items()}
        mine = new.request.client if priority == new.request.priority else None
        while self._lacks and left:
            by_number = self._requests > 0
            longest = max(left, key=lambda each: len(left[each]) if by_number else sizes[each])
            last = left[longest][-1]
            if mine is not None:
                own = len(left.get(mine, ())) + 1 if by_number else sizes.get(mine, 0) + new.size
                less = len(left[longest]) - 1 if by_number else sizes[longest] - last.size
                if longest == mine or less < own:
                    return
            self._refused.append(
                (last, refusals.shed() if mine is None else refusals.beyond_share())
            )
            self._requests -= 1
            self._bytes -= last.size
            sizes[longest] -= last.size
            left[longest].pop()
            if not left[longest]:
                del left[longest]


def _number(waiter: Waiter) -> int:
    return waiter.number
