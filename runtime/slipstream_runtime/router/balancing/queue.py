"""Queue of requests that wait for a slot: bounded in number and bytes, ordered by priority and arrival."""

import asyncio
import bisect

from slipstream_runtime.router.balancing.endpoints import Endpoint
from slipstream_runtime.router.messages import refusals as reasons
from slipstream_runtime.router.messages.request import Asked
from slipstream_runtime.web.refusal import Refusal


class Turn:
    """One request that waits; its place is the result of `place`."""

    def __init__(self, asked: Asked, *, tried: set[Endpoint]) -> None:
        self.asked = asked
        self.tried = tried
        self.place: asyncio.Future[Endpoint] = asyncio.get_running_loop().create_future()
        self.rank = (0, 0)


class Line:
    """The turns of one service."""

    def __init__(self) -> None:
        self.most = 0
        self.most_bytes = 0
        self._turns: list[Turn] = []
        self._bytes = 0
        self._count = 0

    def __len__(self) -> int:
        return len(self._turns)

    def __getitem__(self, index: int) -> Turn:
        return self._turns[index]

    def join(self, turn: Turn) -> None:
        """Wait; a full line sheds turns of lower priority, and refuses the newcomer if there is none."""
        size = len(turn.asked.raw)
        while len(self._turns) >= self.most or self._bytes + size > self.most_bytes:
            last = self._turns[-1] if self._turns else None
            if last is None or last.asked.priority >= turn.asked.priority:
                raise reasons.full()
            self.send_away(last, reasons.shed())
        self._count += 1
        turn.rank = (-turn.asked.priority, self._count)
        bisect.insort(self._turns, turn, key=lambda each: each.rank)
        self._bytes += size

    def send_away(self, turn: Turn, why: Refusal) -> None:
        """End the wait with a refusal."""
        self.leave(turn)
        if not turn.place.done():
            turn.place.set_exception(why)

    def leave(self, turn: Turn) -> None:
        """Wait no longer."""
        at = bisect.bisect_left(self._turns, turn.rank, key=lambda each: each.rank)
        if at < len(self._turns) and self._turns[at] is turn:
            del self._turns[at]
            self._bytes -= len(turn.asked.raw)
