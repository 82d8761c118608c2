"""vLLM inside this process: build the engine, put its application behind the front, serve, drain.

With `lora` the one module that imports vLLM, and itself imported by `launch` only when vLLM is wanted. One rule
matters at the end: nothing may be in flight when the engine client closes, or vLLM waits for clients that wait for it.
"""

import asyncio
from argparse import Namespace
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

from slipstream_runtime.engine import causes, lora, probes
from slipstream_runtime.engine.launch import Launch
from slipstream_runtime.host.errors import EngineError
from slipstream_runtime.host.lifecycle import Phase
from slipstream_runtime.host.service import Service

_BEAT_SECONDS: Final = 0.5
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
    """One engine client and the service in front of it."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._life = launch.life

    async def run(self, parsed: Namespace) -> None:
        """Serve until drained or dead."""
        launch = self._launch
        async with entry.build_async_engine_client(parsed) as client:
            self._learn(client.vllm_config)
            tasks = await client.get_supported_tasks()
            app = build_app(parsed, tasks, client.model_config)
            await app_state.init_app_state(client, app.state, parsed, tasks)
            service = Service(app, life=launch.life, api=launch.api, lifespan=True)
            launch.observed.watch(service.front, engine=get_prometheus_registry())
            app.state.server = service.server
            keeper = self._keeper(app.state.openai_serving_models, service, tasks=tasks)
            async with service.listening():
                try:
                    await self._until_the_end(client, service, keeper, tasks=tasks)
                finally:
                    if keeper is not None:
                        keeper.end()

    def _keeper(
        self, models: Any, service: Service, *, tasks: tuple[str, ...]
    ) -> lora.Keeper | None:
        launch = self._launch
        if launch.config.adapters is None:
            return None

        async def prove(name: str) -> None:
            await service.prove(probes.of(name, launch.config, tasks=tasks))

        return lora.Keeper(
            launch.config.adapters,
            models=models,
            held=launch.known.adapters,
            room=launch.adapter_rank,
            model=launch.weights[0].folder,
            cache=launch.cache,
            token=launch.token,
            prove=prove,
        )

    async def _until_the_end(
        self,
        client: Any,
        service: Service,
        keeper: lora.Keeper | None,
        *,
        tasks: tuple[str, ...],
    ) -> None:
        config = self._launch.config
        death = asyncio.create_task(self._death(client))
        life = asyncio.create_task(
            service.run(
                probes.build(config, tasks=tasks),
                drain_seconds=config.drain_seconds,
                before_ready=keeper.begin if keeper else None,
            )
        )
        await asyncio.wait({death, life}, return_when=asyncio.FIRST_COMPLETED)
        if life.done() and life.exception() is None:
            death.cancel()
            return
        if not death.done():
            # NB: the request that kills the engine fails before the death shows.
            await asyncio.wait({death}, timeout=4 * _BEAT_SECONDS)
        if not death.done():
            death.cancel()
            await life
        life.cancel()
        cause = causes.read(self._launch.errors) or "its process ended without a word"
        reason = f"the engine died: {cause}"
        # NB: from here on the front refuses. A dead engine has nothing to drain.
        self._life.fail(reason)
        await service.front.emptied(within=_LAST_ANSWERS_SECONDS)
        raise EngineError(reason)

    async def _death(self, client: Any) -> None:
        """Return once the engine core is dead; vLLM has no callback for it."""
        while not client.errored:
            self._life.beat()
            await asyncio.sleep(_BEAT_SECONDS)

    def _learn(self, vllm_config: Any) -> None:
        known = self._launch.known
        known.kv_capacity_tokens = vllm_config.cache_config.kv_cache_size_tokens
        known.max_model_length = vllm_config.model_config.max_model_len
