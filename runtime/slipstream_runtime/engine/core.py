"""vLLM's engine core: scheduler, model and KV cache, in a process beside the API server's.

On CPU the core is forked from this process, which has imported everything by then. vLLM itself would start another
interpreter and import everything again, which takes half of a start. On GPUs vLLM decides how the core starts.
"""

import ctypes
import multiprocessing.connection
import os
import signal
import socket
from argparse import Namespace
from collections.abc import Set
from pathlib import Path
from typing import Any, Final

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.model_executor.models import ModelRegistry
from vllm.usage.usage_lib import UsageContext
from vllm.v1.engine.async_llm import AsyncLLM

from slipstream_runtime.engine import deaths, executor, grammars, scheduler, trials, windows
from slipstream_runtime.engine.gain import TALLY_ENV, Tally
from slipstream_runtime.engine.metrics import GainMetrics
from slipstream_runtime.engine.request_times import RequestTimes

_DEATH_SHOWS_SECONDS: Final = 5.0
"""Longest wait for the end of an engine core that has reported its failure."""
_DIE_WITH_PARENT: Final = 1
"""PR_SET_PDEATHSIG of prctl(2): vLLM's core does not notice that its parent was killed."""


def prepare_fork(architectures: Set[str], *, api: socket.socket) -> None:
    """Import all modules that the core needs, and release this process's own resources in the forked core."""
    import vllm.v1.engine.core  # noqa: PLC0415
    import vllm.v1.executor.uniproc_executor  # noqa: F401, PLC0415

    import slipstream_runtime.engine.worker  # noqa: F401, PLC0415

    for name in architectures & ModelRegistry.models.keys():
        # NB: vLLM inspects an unknown class in another interpreter, because its import might initialize a GPU.
        ModelRegistry.register_model(name, ModelRegistry.models[name].load_model_cls())
    descriptor, libc = api.fileno(), ctypes.CDLL(None)
    released = False

    def release() -> None:
        nonlocal released
        if released:
            return  # a child of a child
        released = True
        # NB: the supervisor's loop gets signals by this descriptor, which the core would share.
        signal.set_wakeup_fd(-1)
        os.close(descriptor)
        libc.prctl(_DIE_WITH_PARENT, signal.SIGKILL)

    os.register_at_fork(after_in_child=release)


def start(
    parsed: Namespace, *, fork: bool, tally: Path, times: RequestTimes
) -> tuple[AsyncLLM, Any, GainMetrics | None, grammars.Grammars | None]:
    """Return the client of a loaded engine, vLLM's configuration, the gain of speculation, and the trial of grammars.

    It blocks until the model is in memory. `times` follows its requests. The gain is measured in the file `tally`; None
    where it can't be measured.

    NB: call it outside of an event loop, which a forked core would otherwise use as its own.
    """
    arguments = AsyncEngineArgs.from_cli_args(parsed)
    shown = arguments.enable_logging_iteration_details
    arguments.enable_logging_iteration_details = True
    config = arguments.create_engine_config(usage_context=UsageContext.OPENAI_API_SERVER)
    if fork:
        # NB: only now, because making the configuration sets it to spawn.
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"
    gain = _measure(config, tally) if _can_vary_speculation(config) else None
    trial = trials.start(config)
    counts = not arguments.disable_log_stats
    client = AsyncLLM(
        vllm_config=config,
        executor_class=executor.class_for(config),
        log_stats=counts,
        stat_loggers=[times.loggers(config, shown=shown)] if counts else None,
        usage_context=UsageContext.OPENAI_API_SERVER,
        log_requests=arguments.enable_log_requests,
        aggregate_engine_logging=arguments.aggregate_engine_logging,
    )
    if counts:
        times.attach(client)
    return client, config, gain, trial


def killed_by(client: AsyncLLM) -> int | None:
    """Return the number of the signal that ended an engine core; None if none did, or its process is not known.

    vLLM ends the other cores of a client by SIGTERM once one is gone.
    """
    manager = getattr(client.engine_core.resources, "engine_manager", None)
    if manager is None:
        return None
    processes = {process.sentinel: process for process in manager.processes}
    ended = multiprocessing.connection.wait(list(processes), timeout=_DEATH_SHOWS_SECONDS)
    death = deaths.first([deaths.of(processes[sentinel]) for sentinel in ended])
    if death is None or death.code is None or death.code in (0, -signal.SIGTERM):
        return None
    return -death.code if death.code < 0 else None


def _can_vary_speculation(config: Any) -> bool:
    """Whether this engine's number of draft tokens can change from step to step."""
    speculation, parallel = config.speculative_config, config.parallel_config
    return speculation is not None and windows.possible(
        varies=speculation.uses_dynamic_speculative_decoding(),
        own_scheduler=config.scheduler_config.scheduler_cls is not None,
        ranks=parallel.data_parallel_size * parallel.pipeline_parallel_size,
        second_runner=config.use_v2_model_runner,
        full_graphs=config.compilation_config.cudagraph_mode.has_full_cudagraphs(),
    )


def _measure(config: Any, tally: Path) -> GainMetrics:
    """Make the core choose the number of draft tokens by measured gain."""
    usual = config.scheduler_config
    kind = scheduler.AsyncScheduler if usual.async_scheduling else scheduler.Scheduler
    usual.scheduler_cls = f"{kind.__module__}.{kind.__qualname__}"
    os.environ[TALLY_ENV] = str(tally)
    most = config.speculative_config.num_speculative_tokens
    return GainMetrics(Tally.create(tally, most=most))
