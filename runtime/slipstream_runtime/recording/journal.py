"""Records and sums of the requests of one engine's process."""

import socket
import time
from collections.abc import Callable, Iterable
from typing import Final

from slipstream_runtime.recording import headers
from slipstream_runtime.recording.recorder import Outcome, Recorder
from slipstream_runtime.recording.times import CAUSES, FORM
from slipstream_runtime.recording.totals import Totals
from slipstream_runtime.recording.visits import Visit

_REQUEST_ID: Final = headers.REQUEST_ID.encode()
_PREFIX: Final = headers.PREFIX.encode()


class Journal:
    """Recorder of one model's requests, and their seconds by cause."""

    def __init__(self, service: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.recorder = Recorder(FORM, now=time.time)
        self.first = Totals(len(CAUSES))
        """Seconds until the first token."""
        self.rest = Totals(len(CAUSES))
        """Seconds after it; all seconds of requests without one."""
        self._service = service
        self._replica = socket.gethostname()
        self._clock = clock

    def arrive(self, given: Iterable[tuple[bytes, bytes]]) -> Visit:
        """Return a request that arrives now with these headers, whose names are in lower case."""
        request_id = known_prefix = None
        for name, value in given:
            if name == _REQUEST_ID:
                request_id = value.decode("latin-1")
            elif name == _PREFIX:
                known_prefix = value.decode("latin-1")
        return Visit(
            headers.chosen(request_id),
            arrived=self._clock(),
            known_prefix=headers.known_prefix(known_prefix),
        )

    def end(self, visit: Visit, *, status: int, outcome: Outcome, streamed: bool) -> None:
        """Record a request that ends now."""
        closed = visit.close(self._clock())
        self.first.add(closed.first)
        self.rest.add(
            # NB: a counter that falls by a rounding error counts as one that began again.
            [
                max(0.0, whole - early)
                for whole, early in zip(closed.parts, closed.first, strict=True)
            ]
        )
        self.recorder.add(
            visit.id,
            (*closed.parts, *closed.first, *closed.numbers),
            took=closed.took,
            service=self._service,
            replica=self._replica,
            status=status,
            outcome=outcome,
            streamed=streamed,
            prompt=closed.prompt,
            output=closed.output,
        )
