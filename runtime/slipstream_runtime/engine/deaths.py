"""Deaths of worker processes: which ended and how, logged before the errors that follow from them."""

import dataclasses
import multiprocessing.connection
import signal
import threading
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from typing import Final

_EXIT_CODE_SECONDS: Final = 5.0
"""Longest wait for the exit code of a process whose sentinel is ready; the kernel needs milliseconds."""
_KILLED, _UNKNOWN, _ABORTED, _EXITED, _TERMINATED = range(5)
"""A process that loses another one often aborts or exits, and vLLM ends the remaining ones by SIGTERM."""
_RANKS: Final = {-signal.SIGABRT: _ABORTED, -signal.SIGTERM: _TERMINATED}


@dataclasses.dataclass(frozen=True)
class Death:
    """Unexpected end of a process."""

    process: str
    code: int | None
    """Exit code as Python has it, negative for a signal; None if it isn't known."""


def first(deaths: Sequence[Death]) -> Death | None:
    """Return the death that explains the others; of two that are alike, the one that was reported first."""
    return min(deaths, key=_rank, default=None)


def _rank(death: Death) -> int:
    if death.code is None:
        return _UNKNOWN
    return _RANKS.get(death.code, _KILLED if death.code < 0 else _EXITED)


def of(process: BaseProcess) -> Death:
    """Return how a process ended whose sentinel is ready.

    NB: the kernel closes the files of a process, and so its sentinel, before the exit code can be read.
    """
    process.join(_EXIT_CODE_SECONDS)
    return Death(process.name, process.exitcode)


class Reporter:
    """Reports the deaths of some processes once, whichever thread notices first."""

    def __init__(
        self,
        processes: Sequence[BaseProcess],
        *,
        expected: Callable[[], bool],
        report: Callable[[Death], None],
    ) -> None:
        self._processes = {process.sentinel: process for process in processes}
        self._expected = expected
        self._report = report
        self._lock = threading.Lock()
        self._reported = False

    def wait(self, seconds: float | None = None) -> None:
        """Return once a process has ended and all that have ended are reported, or after this time."""
        if not multiprocessing.connection.wait(list(self._processes), timeout=seconds):
            return
        with self._lock:
            if self._reported or self._expected():
                return
            ended = multiprocessing.connection.wait(list(self._processes), timeout=0)
            for sentinel in ended:
                self._report(of(self._processes[sentinel]))  # type: ignore[index] # sentinels are numbers
            self._reported = True
