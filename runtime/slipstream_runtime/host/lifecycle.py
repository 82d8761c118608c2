"""Lifecycle of an engine between its start and its exit.

Two threads share it (one serves the probes, one runs the engine), so each change is made under a lock. Requests are
counted by the front, not here.
"""

import enum
import threading
from collections.abc import Callable, Mapping
from typing import Final

BEAT_SECONDS: Final = 1.0
"""Seconds between two heartbeats of the event loop that serves."""


class Phase(enum.StrEnum):
    """Phase of an engine, in the order in which an engine goes through them; never backwards."""

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
"""Called with the phase that ended, the phase that began, and the seconds that the ended one took."""


class Lifecycle:
    """Present phase, the duration of each phase, and the heartbeat of the engine's event loop."""

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
        """Present phase."""
        return self._phase

    @property
    def ready(self) -> bool:
        """Whether the engine is ready for new requests."""
        return self._phase is Phase.READY

    @property
    def serves(self) -> bool:
        """Whether new requests are served, also from proxies and clients that have not noticed the shutdown yet."""
        return self._phase in (Phase.READY, Phase.LEAVING)

    @property
    def leaving(self) -> bool:
        """Whether the engine is shutting down or has failed."""
        return self._phase in (Phase.LEAVING, Phase.DRAINING, Phase.STOPPED, Phase.FAILED)

    @property
    def has_served(self) -> bool:
        """Whether the engine has been Ready, so that its first real request has succeeded."""
        return self._phase is Phase.READY or Phase.READY in self._seconds

    def seconds(self) -> Mapping[Phase, float]:
        """Return the seconds spent in each phase, with the present one up to now."""
        with self._lock:
            return {**self._seconds, self._phase: self._clock() - self._since}

    def subscribe(self, listener: Listener) -> None:
        """Call the listener at each change of phase, on the thread that changes it."""
        self._listeners.append(listener)

    def enter(self, phase: Phase) -> bool:
        """Enter a later phase; return False if the engine is already in it or past it."""
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
        """Enter the phase LEAVING; return False if the engine was not ready."""
        with self._lock:
            if self._phase is not Phase.READY:
                return False
            return self.enter(Phase.LEAVING)

    def fail(self, reason: str) -> None:
        """Enter the phase FAILED; only the first reason is kept."""
        with self._lock:
            if self.reason is None:
                self.reason = reason
        self.enter(Phase.FAILED)

    def beat(self) -> None:
        """Record a heartbeat of the engine's event loop."""
        self._beat = self._clock()

    def silent_seconds(self) -> float:
        """Return the seconds since the last heartbeat; 0 before the first, because a load may take any time."""
        return 0.0 if self._beat is None else self._clock() - self._beat
