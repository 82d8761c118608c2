"""Lifecycle of an engine between its start and its exit.

Shared by two threads (one serves the probes, one runs vLLM), so every step is taken under a lock. It decides
nothing about requests: the front counts those.
"""

import enum
import threading
from collections.abc import Callable, Mapping
from typing import Final

BEAT_SECONDS: Final = 1.0
"""Between two heartbeats of the event loop that serves."""


class Phase(enum.StrEnum):
    """In the order in which an engine goes through them; never backwards."""

    STARTING = "starting"
    RESOLVING = "resolving"
    IMPORTING = "importing"
    LOADING = "loading"
    PROBING = "probing"
    READY = "ready"
    LEAVING = "leaving"
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"


_ORDER = tuple(Phase)
Listener = Callable[[Phase, Phase, float], None]
"""Called with the phase that ended, the one that began, and the seconds that the former took."""


class Lifecycle:
    """The phase, how long each took, and a heartbeat of vLLM's event loop."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._phase = Phase.STARTING
        self._since = clock()
        self._seconds: dict[Phase, float] = {}
        self._listeners: list[Listener] = []
        self._beat: float | None = None
        self.reason: str | None = None

    @property
    def phase(self) -> Phase:
        """The present phase."""
        return self._phase

    @property
    def ready(self) -> bool:
        """Whether new requests are welcome."""
        return self._phase is Phase.READY

    @property
    def serves(self) -> bool:
        """Whether new requests are answered: also those of proxies and clients that have not noticed the end yet."""
        return self._phase in (Phase.READY, Phase.LEAVING)

    @property
    def leaving(self) -> bool:
        """Whether the engine is on its way out, for whatever reason."""
        return self._phase in (Phase.LEAVING, Phase.DRAINING, Phase.STOPPED, Phase.FAILED)

    @property
    def has_served(self) -> bool:
        """Whether the first real completion came back, now or earlier."""
        return self._phase is Phase.READY or Phase.READY in self._seconds

    def seconds(self) -> Mapping[Phase, float]:
        """Seconds spent in each phase, the present one so far."""
        with self._lock:
            return {**self._seconds, self._phase: self._clock() - self._since}

    def subscribe(self, listener: Listener) -> None:
        """Call the listener at each change, on the thread that makes it."""
        self._listeners.append(listener)

    def enter(self, phase: Phase) -> bool:
        """Step forward; False if the engine is already there or past it."""
        with self._lock:
            before = self._phase
            if _ORDER.index(phase) <= _ORDER.index(before):
                return False
            now = self._clock()
            took = now - self._since
            self._seconds[before] = took
            self._phase, self._since = phase, now
        for listener in self._listeners:
            listener(before, phase, took)
        return True

    def leave(self) -> bool:
        """Begin to leave; False if the engine was not ready, so that there is nobody to tell."""
        with self._lock:
            if self._phase is not Phase.READY:
                return False
            return self.enter(Phase.LEAVING)

    def fail(self, reason: str) -> None:
        """End for this reason; the first reason stays."""
        with self._lock:
            if self.reason is None:
                self.reason = reason
        self.enter(Phase.FAILED)

    def beat(self) -> None:
        """Note that vLLM's event loop still turns."""
        self._beat = self._clock()

    def silent_seconds(self) -> float:
        """Seconds since the last heartbeat; 0 before the first, for a load may take as long as it takes."""
        return 0.0 if self._beat is None else self._clock() - self._beat
