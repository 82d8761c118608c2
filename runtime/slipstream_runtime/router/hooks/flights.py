"""Work that several requests wait for at once, and that runs once."""

import asyncio
import dataclasses
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


@dataclasses.dataclass(slots=True)
class _Flight(Generic[Result]):
    task: asyncio.Task[Result]
    waiting: int = 0


class Flights(Generic[Result]):
    """Running work by its key. It is cancelled once no request waits for it."""

    def __init__(self) -> None:
        self._flights: dict[bytes, _Flight[Result]] = {}

    def __contains__(self, key: bytes) -> bool:
        return key in self._flights

    async def share(self, key: bytes, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Return the result of the running work with this key, or of `work`, which then runs for others, too."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.create_task(work()))
            flight.task.add_done_callback(lambda task: self._landed(key, task))
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                del self._flights[key]
                flight.task.cancel()

    def _landed(self, key: bytes, task: asyncio.Task[Result]) -> None:
        flight = self._flights.get(key)
        if flight is not None and flight.task is task:
            del self._flights[key]
        if not task.cancelled():
            task.exception()  # NB: asyncio reports an exception that no request read
