"""Main thread of an engine's process: signals, probes, and the end of the process.

The engine runs on another thread, where its imports and its load may block for minutes without delaying a probe or
SIGTERM. The process always ends by `os._exit`, so that no thread of the engine can keep it alive.
"""

import asyncio
import dataclasses
import multiprocessing
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Final, NoReturn, Protocol

from slipstream_runtime import contract, logs
from slipstream_runtime.errors import EngineError, describe
from slipstream_runtime.host import management
from slipstream_runtime.host.lifecycle import Lifecycle, Phase
from slipstream_runtime.host.metrics import Metrics
from slipstream_runtime.host.status import EngineStatus
from slipstream_runtime.web import server

_EXIT_SECONDS: Final = contract.EXIT_SECONDS - 2
"""Seconds after the drain for aborted requests and the engine to end; less than the kubelet gives."""


@dataclasses.dataclass(frozen=True)
class Exit:
    """Exit code of the process, with the reason of a failure."""

    exit_code: int
    reason: str | None = None


class Engine(Protocol):
    """Engine that the supervisor runs; `run` has its own thread and returns once drained."""

    @property
    def life(self) -> Lifecycle: ...  # noqa: D102
    @property
    def metrics(self) -> Metrics: ...  # noqa: D102
    @property
    def status(self) -> EngineStatus: ...  # noqa: D102
    @property
    def api(self) -> socket.socket: ...  # noqa: D102
    @property
    def stop_seconds(self) -> float: ...  # noqa: D102
    def run(self) -> None: ...  # noqa: D102


class Supervisor:
    """Runs one engine; `run` does not return."""

    def __init__(self, engine: Engine, *, manage: socket.socket, termination_log: Path) -> None:
        self._engine = engine
        self._life = engine.life
        self._manage = manage
        self._termination_log = termination_log
        self._life.subscribe(self._log)

    def run(self) -> NoReturn:
        """Serve until the engine ends or the pod is stopped."""
        self._exit(asyncio.run(self._supervise()))

    async def _supervise(self) -> Exit:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Exit] = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number, ended)
        manager = management.Management(
            life=self._life, metrics=self._engine.metrics, status=self._engine.status
        )
        probes = server.Server(manager, lifespan=False)
        managing = asyncio.create_task(probes.serve([self._manage]))
        await probes.listening.wait()
        logs.event(
            "listening",
            management=self._manage.getsockname()[1],
            api=self._engine.api.getsockname()[1],
        )
        thread = threading.Thread(
            target=self._run_engine, args=(loop, ended), name="engine", daemon=True
        )
        thread.start()
        outcome = await ended
        if outcome.exit_code == 0:
            self._life.enter(Phase.STOPPED)
        else:
            self._life.fail(outcome.reason or "unknown")
        probes.stop()
        await managing
        return outcome

    def _run_engine(self, loop: asyncio.AbstractEventLoop, ended: asyncio.Future[Exit]) -> None:
        try:
            self._engine.run()
            outcome = Exit(0)
        except EngineError as error:
            logs.failure("engine failed", error=error.__cause__, reason=error.reason)
            outcome = Exit(error.exit_code, error.reason)
        except BaseException as error:
            reason = describe(error)
            logs.failure("engine failed", error=error, reason=reason)
            outcome = Exit(1, reason)
        loop.call_soon_threadsafe(_settle, ended, outcome)

    def _stop(self, number: int, ended: asyncio.Future[Exit]) -> None:
        """Handle SIGTERM or SIGINT: drain if the engine is ready, else exit; a second signal changes nothing."""
        if self._life.leave():
            logs.event(
                "leaving",
                signal=signal.Signals(number).name,
                inFlight=self._engine.metrics.in_flight,
            )
            limit = self._engine.stop_seconds + _EXIT_SECONDS
            forced = Exit(1, f"the engine did not end within {limit} s of SIGTERM")
            asyncio.get_running_loop().call_later(limit, _settle, ended, forced)
        elif not self._life.leaving:
            logs.event("stopped before ready", signal=signal.Signals(number).name)
            _settle(ended, Exit(0))

    def _exit(self, outcome: Exit) -> NoReturn:
        if outcome.reason is not None:
            logs.leave_reason(self._termination_log, outcome.reason)
        for child in multiprocessing.active_children():
            child.kill()
        logs.event("exit", code=outcome.exit_code, reason=outcome.reason)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(outcome.exit_code)

    def _log(self, before: Phase, phase: Phase, took: float) -> None:
        logs.event("phase", phase=phase.value, after=before.value, seconds=round(took, 3))


def _settle(ended: asyncio.Future[Exit], outcome: Exit) -> None:
    if not ended.done():
        ended.set_result(outcome)
