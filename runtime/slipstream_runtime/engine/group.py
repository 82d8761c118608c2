"""Pods that form one replica: a leader, which serves, and workers, which compute for it.

LeaderWorkerSet gives each pod its rank and the leader's address. A worker waits until the leader can be reached, and
ends after the leader has ended, because an incomplete group can't serve.
"""

import dataclasses
import http.client
import json
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from slipstream_runtime import contract, logs
from slipstream_runtime.errors import EngineError, UnsuitableError
from slipstream_runtime.host.lifecycle import Lifecycle, Phase

LOST_SECONDS: Final = 15.0
"""Seconds without an answer after which a leader counts as lost; it answers while it loads and while it drains."""
_GONE_SECONDS: Final = 5.0
"""Seconds without an answer after which a leader that was shutting down counts as stopped."""
_CHECK_SECONDS: Final = 1.0
"""Seconds between two checks of the leader."""
_LOG_SECONDS: Final = 15.0
"""Seconds between two log lines about a leader that does not answer yet."""
_TIMEOUT: Final = 2.0
"""Seconds for one answer of the leader."""
_ENDED: Final = (Phase.STOPPED, Phase.FAILED)
_ORDER: Final = tuple(Phase)

Ask = Callable[[], Phase | None]
"""Return the leader's phase; None if it does not answer."""


@dataclasses.dataclass(frozen=True)
class Member:
    """Rank of a pod in its group."""

    rank: int
    size: int
    leader: str
    """Host name of the leader, which the leader's pod can resolve, too."""

    @property
    def leads(self) -> bool:
        """Whether this pod is the leader."""
        return self.rank == 0


def member(environment: Mapping[str, str], *, nodes: int) -> Member | None:
    """Return this pod's rank; None for a replica of one pod."""
    if nodes == 1:
        return None
    names = (contract.WORKER_INDEX_ENV, contract.GROUP_SIZE_ENV, contract.LEADER_ADDRESS_ENV)
    missing = [name for name in names if not environment.get(name)]
    if missing:
        raise UnsuitableError(
            f"spec.parallelism.nodes: {nodes} needs {', '.join(missing)}, which LeaderWorkerSet sets. "
            "Run the engine as a pod of a LeaderWorkerSet."
        )
    rank, size = (int(environment[name]) for name in names[:2])
    if size != nodes:
        raise UnsuitableError(
            f"spec.parallelism.nodes: {nodes} needs a group of {nodes} pods, and this one has {size}. "
            "Restore the LeaderWorkerSet's size."
        )
    return Member(rank, size, environment[contract.LEADER_ADDRESS_ENV])


def asking(member: Member, *, port: int = contract.MANAGEMENT_PORT) -> Ask:
    """Return a function that reads the phase from the leader's status."""

    def ask() -> Phase | None:
        connection = http.client.HTTPConnection(member.leader, port, timeout=_TIMEOUT)
        try:
            connection.request("GET", contract.STATUS_PATH)
            return Phase(json.loads(connection.getresponse().read())["phase"])
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
            return None
        finally:
            connection.close()

    return ask


def wait(member: Member, ask: Ask, *, pause: Callable[[float], None] = time.sleep) -> None:
    """Wait until the leader's name resolves and the leader answers; how long is up to the startup probe."""
    started = time.monotonic()
    logged = started
    while ask() is None:
        if (now := time.monotonic()) - logged >= _LOG_SECONDS:
            logged = now
            logs.event(
                "waiting for leader",
                leader=member.leader,
                resolved=_address(member.leader),
                seconds=round(now - started),
            )
        pause(_CHECK_SECONDS)
    logs.event("leader found", leader=member.leader, seconds=round(time.monotonic() - started, 1))


def _address(host: str) -> str | None:
    try:
        return socket.gethostbyname(host)
    except OSError:
        return None


class Watch:
    """Watch that checks the leader regularly, and notices its end or restart."""

    def __init__(self, member: Member, ask: Ask, *, clock: Callable[[], float]) -> None:
        self._leader = member.leader
        self._ask = ask
        self._clock = clock
        self._answered = self._checked = clock()
        self._phase: Phase | None = None

    @property
    def orderly(self) -> bool:
        """Whether the leader was shutting down at its last answer."""
        return self._phase in (Phase.LEAVING, Phase.DRAINING, Phase.STOPPED)

    def lost(self) -> str | None:
        """Return why the leader is lost; None while it is available."""
        now = self._clock()
        if now - self._checked < _CHECK_SECONDS:
            return None
        self._checked = now
        phase = self._ask()
        if phase is None:
            silent = now - self._answered
            if self.orderly and silent > _GONE_SECONDS:
                return f"the leader {self._leader} has stopped"
            if silent > LOST_SECONDS:
                return f"the leader {self._leader} has not answered for {silent:.0f} s"
            return None
        before, self._phase, self._answered = self._phase, phase, now
        if phase in _ENDED:
            return f"the leader {self._leader} has {phase.value}"
        if before is not None and _ORDER.index(phase) < _ORDER.index(before):
            return f"the leader {self._leader} was restarted"
        return None


def follow(
    life: Lifecycle,
    watch: Watch,
    *,
    wait: Callable[[], list[Any]],
    stop_seconds: float,
    clock: Callable[[], float],
) -> list[Any]:
    """Compute for the leader until it has ended; return the processes of this pod that ended by themselves.

    `wait` waits a moment and returns those processes. After SIGTERM, a worker stays while the leader drains, at most as
    long as a drain may take, because requests need it. EngineError if the leader is lost.
    """
    limit: float | None = None
    while True:
        if ended := wait():
            return ended
        life.beat()
        if life.leaving and limit is None:
            limit = clock() + stop_seconds
        lost = watch.lost()
        if lost is not None and not watch.orderly and limit is None:
            raise EngineError(lost)
        if lost is not None or (limit is not None and clock() > limit):
            return []
