"""Times of one request in the router, by cause."""

import enum
from collections.abc import Mapping
from typing import Final

from slipstream_runtime.recording.recorder import Form


class Cause(enum.StrEnum):
    """Cause of a part of a request's time. The parts add up to the time from its arrival to its end."""

    QUEUE = "queue"
    """Waiting for a slot in replicas that serve."""
    WAKE = "wake"
    """Waiting while no replica serves."""
    RETRY = "retry"
    """Attempts at replicas that did not answer."""
    FIRST = "first"
    """Waiting for the first byte of the replica that answers."""
    STREAM = "stream"
    """Time from the first byte to the end of the answer, without the client's part."""
    CLIENT = "client"
    """Waiting for a client that reads its answer slowly."""
    ROUTER = "router"
    """Everything else: reading and checking the request, budgets, and sharing another request's answer."""


CAUSES: Final = tuple(Cause)
FORM: Final = Form({"seconds": CAUSES})


class Flight:
    """Request between its arrival and its end. All times are in seconds of the router's clock."""

    __slots__ = (
        "before", "client", "entered", "failed", "id", "load", "queue", "reason", "replica", "replied", "retries",
        "sent", "streamed", "wake", "work",
    )  # fmt: skip

    def __init__(self, request_id: str) -> None:
        self.id = request_id
        self.queue = 0.0
        """Seconds in the queue."""
        self.wake = 0.0
        self.failed = 0.0
        """Seconds of attempts that failed."""
        self.client = 0.0
        """Seconds of waiting for the client."""
        self.replica = ""
        """Name of the replica that got the request last."""
        self.retries = 0
        self.sent: float | None = None
        """Time at which the replica that answers got the request."""
        self.replied: float | None = None
        """Time of the first byte of the answer."""
        self.entered = 0.0
        """Time at which the replica got the request last."""
        self.load = 0.0
        """Mean requests in flight of the replica. This and all others below are known if revisions are compared."""
        self.work = 0.0
        """Blocks of prompt that the replica had to compute."""
        self.before: Mapping[str, tuple[int, float]] = {}
        """Figures of the replica's last answer before the request, by measure."""
        self.streamed = False
        """Whether the answer is a stream of events, so that its first byte is its first token."""
        self.reason = ""
        """Reason for which the answer ended."""

    def waited(self, seconds: float, *, asleep: bool) -> None:
        """Add the time until a slot was free; `asleep` if no replica served when it began."""
        if asleep:
            self.wake += seconds
        else:
            self.queue += seconds

    def gave_up(self, seconds: float) -> None:
        """Add an attempt that failed."""
        self.failed += seconds
        self.retries += 1
        self.sent = self.replied = None

    def parts(self, arrived: float, now: float) -> tuple[float, ...]:
        """Return the seconds of each cause, in the order of `CAUSES`."""
        first, stream = 0.0, 0.0
        if self.sent is not None:
            if self.replied is None:
                first = now - self.sent
            else:
                first = self.replied - self.sent
                stream = max(0.0, now - self.replied - self.client)
        known = self.queue + self.wake + self.failed + first + stream + self.client
        rest = max(0.0, now - arrived - known)
        return self.queue, self.wake, self.failed, first, stream, self.client, rest
