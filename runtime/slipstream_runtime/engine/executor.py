"""vLLM's executor of several worker processes, which reports a worker's death before the errors that follow from it.

vLLM's own monitor reads the exit code when the process has only begun to end, and then logs None for it. It also says
nothing when another worker's error has ended the engine core before the monitor noticed the death.
"""

import logging
import threading
from concurrent.futures import Future
from typing import Any, Final

from vllm.v1.executor.abstract import Executor
from vllm.v1.executor.multiproc_executor import MultiprocExecutor

from slipstream_runtime.engine import causes, deaths

_DEATH_SHOWS_SECONDS: Final = 5.0
"""Longest wait for a death when a worker reports that another one is gone; it shows within milliseconds."""

_logger = logging.getLogger(f"vllm.{__name__}")
"""Below vLLM's own logger, whose errors also go to the file that the cause is read from."""


def class_for(config: Any) -> type[Executor]:
    """Return the executor class that vLLM chooses, or ReportingExecutor in place of MultiprocExecutor."""
    chosen: type[Executor] = Executor.get_class(config)
    return ReportingExecutor if chosen is MultiprocExecutor else chosen


class ReportingExecutor(MultiprocExecutor):  # type: ignore[misc] # vLLM is not typed
    """Executor that logs which worker ended first, and how."""

    _deaths: deaths.Reporter | None = None
    """None until all workers are ready."""

    def start_worker_monitor(self, inline: bool = False) -> None:
        """Report the first death, then let vLLM's monitor act on it."""
        reporter = self._deaths = deaths.Reporter(
            [worker.proc for worker in self.workers],
            expected=lambda: getattr(self, "shutting_down", False),
            report=_log,
        )

        def monitor() -> None:
            reporter.wait()
            super(ReportingExecutor, self).start_worker_monitor(inline=True)

        if inline:
            monitor()
        else:
            threading.Thread(target=monitor, daemon=True, name="WorkerMonitor").start()

    def collective_rpc(self, *args: Any, **kwargs: Any) -> Any:
        """Call a method of all workers; before an error is returned, a death that caused it is reported."""
        try:
            answer = super().collective_rpc(*args, **kwargs)
        except Exception as error:
            self._explain(error)
            raise
        if isinstance(answer, Future):
            answer.add_done_callback(self._explain_answer)
        return answer

    def _explain_answer(self, answer: "Future[Any]") -> None:
        # NB: this runs in the thread that collects the answer, before it sees the error.
        if (error := answer.exception()) is not None:
            self._explain(error)

    def _explain(self, error: BaseException) -> None:
        if self._deaths is not None:
            self._deaths.wait(_DEATH_SHOWS_SECONDS if causes.of_another(str(error)) else 0)


def _log(death: deaths.Death) -> None:
    _logger.error(causes.DEATH, death.process, death.code)
