"""vLLM inside this process: build the engine, put its application behind the front, serve, drain.

The one module that imports vLLM, and itself imported by `launch` only when vLLM is wanted. One rule matters at the
end: nothing may be in flight when the engine client closes, or vLLM waits for clients that wait for it.
"""

import asyncio
import contextlib
import secrets
import socket
from argparse import Namespace
from collections.abc import AsyncIterator
from typing import Any, Final

import torch
import transformers
import uvloop
import vllm
from vllm.entrypoints.launchers import cli_args
from vllm.entrypoints.launchers.api_server import app_state, entry
from vllm.entrypoints.launchers.app import build_app
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.utils.system_utils import set_ulimit
from vllm.v1.metrics.prometheus import get_prometheus_registry

from slipstream_runtime.engine import causes, front, logs, probe
from slipstream_runtime.engine.errors import EngineError
from slipstream_runtime.engine.launch import Launch
from slipstream_runtime.engine.lifecycle import Phase
from slipstream_runtime.web import server

_BEAT_SECONDS: Final = 0.5
_ABORT_SECONDS: Final = 3.0
"""For aborted requests to leave; vLLM needs a step of the engine for it."""
_LAST_ANSWERS_SECONDS: Final = 0.5
"""For vLLM to tell its clients that the engine died."""


def run(launch: Launch) -> None:
    """Load and serve until drained, in an event loop of its own."""
    launch.known.versions |= {
        "vllm": vllm.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    set_ulimit()
    parsed = parse(launch.known.arguments)
    launch.life.enter(Phase.LOADING)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_Serving(launch).run(parsed))


def parse(words: list[str]) -> Namespace:
    """The arguments as vLLM reads them."""
    parser = cli_args.make_arg_parser(FlexibleArgumentParser(exit_on_error=False))
    parsed: Namespace = parser.parse_args(words)
    cli_args.validate_parsed_serve_args(parsed)
    return parsed


class _Serving:
    """One engine client and the server in front of it."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._life = launch.life
        self._probe_key = secrets.token_urlsafe()

    async def run(self, parsed: Namespace) -> None:
        """Serve until drained or dead."""
        launch = self._launch
        async with entry.build_async_engine_client(parsed) as client:
            self._learn(client.vllm_config)
            tasks = await client.get_supported_tasks()
            app = build_app(parsed, tasks, client.model_config)
            await app_state.init_app_state(client, app.state, parsed, tasks)
            guard = front.Front(app, life=self._life, probe_key=self._probe_key)
            launch.observed.watch(guard, engine=get_prometheus_registry())
            serving = server.Server(guard, lifespan=True)
            app.state.server = serving
            async with _listening(serving, launch.api):
                await self._until_the_end(client, guard, tasks=tasks)

    async def _until_the_end(
        self, client: Any, guard: front.Front, *, tasks: tuple[str, ...]
    ) -> None:
        death = asyncio.create_task(self._death(client))
        service = asyncio.create_task(self._serve(guard, tasks=tasks))
        await asyncio.wait({death, service}, return_when=asyncio.FIRST_COMPLETED)
        if service.done() and service.exception() is None:
            death.cancel()
            return
        if not death.done():
            # NB: the request that kills the engine fails before the death shows.
            await asyncio.wait({death}, timeout=4 * _BEAT_SECONDS)
        if not death.done():
            death.cancel()
            await service
        service.cancel()
        cause = causes.read(self._launch.errors) or "its process ended without a word"
        reason = f"the engine died: {cause}"
        # NB: from here on the front refuses. A dead engine has nothing to drain.
        self._life.fail(reason)
        await guard.emptied(within=_LAST_ANSWERS_SECONDS)
        raise EngineError(reason)

    async def _death(self, client: Any) -> None:
        """Return once the engine core is dead; vLLM has no callback for it."""
        while not client.errored:
            self._life.beat()
            await asyncio.sleep(_BEAT_SECONDS)

    async def _serve(self, guard: front.Front, *, tasks: tuple[str, ...]) -> None:
        """From the first request to the end of the drain."""
        config, life = self._launch.config, self._life
        draining = asyncio.Event()
        loop = asyncio.get_running_loop()

        def notice(_before: Phase, phase: Phase, _took: float) -> None:
            if phase is Phase.DRAINING:
                loop.call_soon_threadsafe(draining.set)

        life.subscribe(notice)
        life.enter(Phase.PROBING)
        path, body = probe.request(
            tasks,
            model=config.model.name,
            draft_tokens=config.speculation.tokens if config.speculation else 0,
        )
        port = self._launch.api.getsockname()[1]
        await asyncio.to_thread(probe.run, path, body, port=port, key=self._probe_key)
        life.enter(Phase.READY)
        await draining.wait()
        if await guard.emptied(within=config.drain_seconds):
            return
        logs.event("aborting", inFlight=guard.in_flight)
        guard.abort()
        if not await guard.emptied(within=_ABORT_SECONDS):
            raise EngineError(f"{guard.in_flight} requests did not end when they were aborted")

    def _learn(self, vllm_config: Any) -> None:
        known = self._launch.known
        known.kv_capacity_tokens = vllm_config.cache_config.kv_cache_size_tokens
        known.max_model_length = vllm_config.model_config.max_model_len


@contextlib.asynccontextmanager
async def _listening(serving: server.Server, bound: socket.socket) -> AsyncIterator[None]:
    """Accept connections inside, and close them all at the end."""
    task = asyncio.create_task(serving.serve([bound]))
    listening = asyncio.create_task(serving.listening.wait())
    await asyncio.wait({task, listening}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        listening.cancel()
        await task
        raise EngineError("the API server ended before it listened")
    try:
        yield
    finally:
        serving.stop()
        await task
