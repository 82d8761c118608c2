"""Worker pod of a replica that spans nodes: vLLM's worker processes of this node, without a scheduler or an API."""

import multiprocessing.connection
import time
from typing import Any

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.usage.usage_lib import UsageContext
from vllm.utils.system_utils import set_ulimit
from vllm.v1.executor.multiproc_executor import MultiprocExecutor

from slipstream_runtime.engine import causes, deaths, group, serving
from slipstream_runtime.engine.launch import Launch
from slipstream_runtime.errors import EngineError
from slipstream_runtime.host.lifecycle import BEAT_SECONDS, Phase


def run(launch: Launch, member: group.Member, ask: group.Ask) -> None:
    """Join the leader, and compute until it ends or this pod is stopped; EngineError after a failure."""
    launch.status.versions |= serving.versions()
    set_ulimit()
    parsed = serving.parse(launch.status.arguments)
    launch.life.enter(Phase.LOADING)
    config = AsyncEngineArgs.from_cli_args(parsed).create_engine_config(
        usage_context=UsageContext.OPENAI_API_SERVER, headless=True
    )
    executor = MultiprocExecutor(config, monitor_workers=False)
    try:
        launch.life.enter(Phase.READY)
        _follow(launch, executor, group.Watch(member, ask, clock=time.monotonic))
    finally:
        executor.shutdown()


def _follow(launch: Launch, executor: Any, watch: group.Watch) -> None:
    processes = {worker.proc.sentinel: worker.proc for worker in executor.workers}
    ended = group.follow(
        launch.life,
        watch,
        wait=lambda: multiprocessing.connection.wait(processes, timeout=BEAT_SECONDS),
        stop_seconds=launch.stop_seconds,
        clock=time.monotonic,
    )
    if ended:
        known = [deaths.of(processes[sentinel]) for sentinel in ended]
        cause = causes.read(launch.errors, out_of_memory=launch.out_of_memory, known=known)
        assert cause is not None  # a death is one
        raise EngineError(cause)
