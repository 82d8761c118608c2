"""vLLM inside this process: build the engine, put its application behind the front, serve, drain.

`launch` imports this module only when vLLM is needed, because it imports vLLM. NB: no request may be in flight when
the engine client closes, or vLLM waits for clients that wait for it.
"""

import asyncio
import time
from argparse import Namespace
from collections.abc import Collection, Sequence, Set
from typing import Any, Final

import torch
import transformers
import uvloop
import vllm
import vllm.envs
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from vllm.entrypoints.launchers import cli_args
from vllm.entrypoints.launchers.api_server import app_state
from vllm.entrypoints.launchers.app import build_app
from vllm.entrypoints.serve.exception_handling.handlers.http import http_exception_handler
from vllm.reasoning import ReasoningParserManager
from vllm.tasks import GENERATION_TASKS
from vllm.tool_parsers import ToolParserManager
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.utils.system_utils import set_ulimit
from vllm.v1.metrics.prometheus import get_prometheus_registry

from slipstream_runtime import contract, logs
from slipstream_runtime.engine import (
    arguments,
    bounds,
    causes,
    chat_templates,
    core,
    decoding,
    probes,
    prompts,
    speech,
    structured_outputs,
    template_syntax,
)
from slipstream_runtime.engine.adapter_loader import AdapterLoader
from slipstream_runtime.engine.grammars import Grammars
from slipstream_runtime.engine.launch import Launch
from slipstream_runtime.engine.request_times import RequestTimes
from slipstream_runtime.engine.requests import Requests
from slipstream_runtime.engine.stall import StallTimer
from slipstream_runtime.host import front, routes
from slipstream_runtime.host.lifecycle import BEAT_SECONDS, Phase
from slipstream_runtime.host.probe import Probe
from slipstream_runtime.host.service import Service
from slipstream_runtime.model_files import sources
from slipstream_runtime.recording.journal import Journal
from slipstream_runtime.web import keyring, openai
from slipstream_runtime.web.tenants import Tenancy

_DEATH_SHOWS_SECONDS: Final = 10.0
"""Longest wait for the engine's death to show after a request failed."""
_PROOF_SECONDS: Final = 30.0
"""Longest time for a probe after requests made no progress."""
_NO_CAUSE: Final = "its process ended and logged no error"
_SIGNS_OF_WORK: Final = (
    contract.GENERATION_TOKENS,
    contract.PROMPT_TOKENS,
    contract.KV_USAGE,
    contract.RUNNING,
    contract.WAITING,
)
"""Metrics of which at least one changes at each step; a prompt that is read in chunks fills the KV cache."""


def run(launch: Launch, architectures: Set[str]) -> None:
    """Load and serve until drained, in a new event loop; `architectures` are the models' classes."""
    launch.status.versions |= versions()
    if launch.config.output is not None:
        structured_outputs.check(launch.config.output)
    if (field := chat_templates.field(launch.config.model)) is not None:
        template_syntax.check(launch.weights[0].template, field=field)
    set_ulimit()
    parsed = parse(launch.status.arguments)
    launch.life.enter(Phase.LOADING)
    if launch.forks:
        core.prepare_fork(architectures, api=launch.api)
    times = RequestTimes()
    client, config, gain, trial = core.start(
        parsed, fork=launch.forks, tally=launch.tally, times=times
    )
    launch.metrics.add(times.collector())
    if gain is not None:
        launch.metrics.add(gain)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_Serving(launch, trial).run(client, config, parsed))
    finally:
        client.shutdown(timeout=config.shutdown_timeout)


def versions() -> dict[str, str]:
    """Return the versions of vLLM and its main libraries."""
    return {
        "vllm": vllm.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def served_tasks(supported: Collection[str], model: Any) -> frozenset[str]:
    """Return the tasks that vLLM serves: what the model generates, and the one way in which it is pooled."""
    pooling = model.get_pooling_task(supported)
    generating = speech.servable(
        {task for task in supported if task in GENERATION_TASKS}, decodes=speech.decodes()
    )
    return generating if pooling is None else generating | {pooling}


def served_paths(app: Any, tasks: Set[str]) -> frozenset[str]:
    """Return the paths of vLLM's application that clients may use, and that a model of these tasks answers."""
    there = {getattr(route, "path", None) for route in app.routes}
    return frozenset(
        path
        for path, form in openai.FORMS.items()
        if path in there and (not form.tasks or form.tasks & tasks)
    )


def parse(words: list[str]) -> Namespace:
    """Return the arguments as vLLM parses them."""
    parser = cli_args.make_arg_parser(FlexibleArgumentParser(exit_on_error=False))
    parsed: Namespace = parser.parse_args(arguments.supported(words, parser._option_string_actions))
    cli_args.validate_parsed_serve_args(parsed)
    # vLLM's own server imports them before it makes an engine.
    if parsed.tool_parser_plugin:
        ToolParserManager.import_tool_parser(parsed.tool_parser_plugin)
    if parsed.reasoning_parser_plugin:
        ReasoningParserManager.import_reasoning_parser(parsed.reasoning_parser_plugin)
    return parsed


async def _model(request: Request, model: str) -> Response:
    """Answer `GET /v1/models/{model}`, which vLLM lacks, with the model's entry in vLLM's list."""
    models = await request.app.state.openai_serving_models.show_available_models()
    card = next((card for card in models.data if card.id == model), None)
    if card is None:
        raise HTTPException(404, f"The model `{model}` does not exist.")
    return JSONResponse(card.model_dump())


class _Serving:
    """Engine client and the service in front of it."""

    def __init__(self, launch: Launch, trial: Grammars | None) -> None:
        self._launch = launch
        self._trial = trial
        self._life = launch.life

    async def run(self, client: Any, config: Any, parsed: Namespace) -> None:
        """Serve until the engine is drained or has failed."""
        launch = self._launch
        self._learn(config)
        await client.reset_mm_cache()  # it holds dummy data of the profiling
        supported = await client.get_supported_tasks()
        app = build_app(parsed, supported, client.model_config)
        app.add_api_route(f"{openai.MODELS}/{{model:path}}", _model, methods=["GET"])
        # NB: vLLM's handlers don't cover errors about unknown routes. The stack is already built, so it is built again.
        app.add_exception_handler(HTTPException, http_exception_handler)
        app.middleware_stack = app.build_middleware_stack()
        await app_state.init_app_state(client, app.state, parsed, supported)
        tasks = served_tasks(supported, client.model_config)
        paths = served_paths(app, tasks)
        launch.status.details["tasks"] = sorted(tasks)
        service = Service(
            app,
            life=launch.life,
            api=launch.api,
            lifespan=True,
            routes=routes.routes({*paths, routes.VERSION}),
            guard=self._guard(config),
            certificate=launch.config.certificate,
            journal=Journal(launch.config.model.name),
        )
        if (most := launch.config.limits.max_prompt_tokens) is not None:
            prompts.limit(app.state, client, most=most, refused=service.front.count)
        launch.metrics.watch(service.front, engine=get_prometheus_registry())
        app.state.server = service.server
        loader = self._adapter_loader(app.state.openai_serving_models, service, tasks=tasks)
        async with service.listening():
            try:
                first = probes.build(launch.config, tasks=tasks, paths=paths)
                await self._until_the_end(client, service, loader, first)
            finally:
                if loader is not None:
                    loader.stop()

    def _adapter_loader(
        self, models: Any, service: Service, *, tasks: Set[str]
    ) -> AdapterLoader | None:
        launch = self._launch
        if launch.config.adapters is None:
            return None

        async def probe(name: str) -> None:
            await service.prove(probes.of_adapter(name, launch.config, tasks=tasks))

        return AdapterLoader(
            launch.config.adapters,
            models=models,
            current=launch.status.adapters,
            max_rank=launch.adapter_rank,
            model=launch.weights[0].folder,
            cache=launch.cache,
            token=sources.token(),
            probe=probe,
        )

    async def _until_the_end(
        self,
        client: Any,
        service: Service,
        loader: AdapterLoader | None,
        first: Sequence[Probe],
    ) -> None:
        config = self._launch.config
        fault = asyncio.create_task(self._fault(client, service, first))
        life = asyncio.create_task(
            service.run(
                first,
                linger_seconds=config.linger_seconds,
                drain_seconds=config.drain_seconds,
                before_ready=loader.start if loader else None,
            )
        )
        await asyncio.wait({fault, life}, return_when=asyncio.FIRST_COMPLETED)
        if life.done() and life.exception() is None:
            fault.cancel()
            return
        if not fault.done():
            # NB: the request that kills the engine fails before the engine's end is visible.
            await asyncio.wait({fault}, timeout=_DEATH_SHOWS_SECONDS)
        if not fault.done():
            fault.cancel()
            await life
        life.cancel()
        await service.fail(await fault)

    async def _fault(self, client: Any, service: Service, first: Sequence[Probe]) -> str:
        """Return why the engine core failed; vLLM has no callback for it, and does not notice a hang.

        Requests that see no work are ended. The engine has failed if it then can't answer its first probe either.
        """
        work, limit = StallTimer(), self._launch.config.stall_seconds
        counted = get_prometheus_registry().restricted_registry(_SIGNS_OF_WORK)
        proof: asyncio.Task[None] | None = None
        hangs, deadline = "", 0.0
        while not client.errored:
            self._life.beat()
            held, now = client.output_processor.get_num_unfinished_requests(), time.monotonic()
            reading = tuple(
                sample.value for metric in counted.collect() for sample in metric.samples
            )
            stalled = work.stalled(reading, held=held, now=now)
            if proof is not None:
                if proof.done() and proof.exception() is None:
                    proof, work = None, StallTimer()
                elif proof.done() or now > deadline:
                    proof.cancel()
                    return hangs
            elif stalled > limit:
                hangs = f"the engine hangs: {held} requests made no progress for {stalled:.0f} s"
                if not first:
                    return hangs
                logs.failure("requests made no progress", requests=held, seconds=round(stalled))
                service.front.end_stalled(stalled)
                proof = asyncio.create_task(service.prove(first[0]))
                deadline = now + min(limit, _PROOF_SECONDS)
            await asyncio.sleep(BEAT_SECONDS)
        cause = self._launch.cause or await asyncio.to_thread(self._killed, client)
        return f"the engine died: {cause or _NO_CAUSE}"

    def _killed(self, client: Any) -> str | None:
        """Return why the engine core ended if it was killed by a signal, which leaves no log."""
        number = core.killed_by(client)
        if number is None:
            return None
        out_of_memory = self._launch.out_of_memory
        return causes.killed("the engine core", number, out_of_memory=out_of_memory)

    def _guard(self, vllm_config: Any) -> front.Guard:
        config, model = self._launch.config, vllm_config.model_config
        rule = Requests(
            limits=config.limits,
            context=model.max_model_len,
            output=config.output,
            stores=vllm.envs.VLLM_ENABLE_RESPONSES_API_STORE,
            reaches_store=config.reaches_store,
            media=model.is_multimodal_model,
            fetches=arguments.MEDIA_DOMAINS in config.engine_args,
        )
        return front.Guard(
            limits=config.limits,
            engine_slots=self._launch.status.max_sequences,
            keys=keyring.mounted(config.api_keys) if config.api_keys else None,
            tenancy=Tenancy(
                config.model.name, scope=config.prefix_scope, keys=config.api_keys is not None
            )
            if config.prefix_scope
            else None,
            places=bounds.answers,
            uploads=contract.upload_limit(vllm.envs.VLLM_MAX_AUDIO_CLIP_FILESIZE_MB),
            trial=self._trial.check if self._trial else None,
            decoded=decoding.size if model.is_multimodal_model else None,
            rule=rule,
            largest=rule.largest,
            metrics=self._launch.metrics.render if config.open_metrics else None,
        )

    def _learn(self, vllm_config: Any) -> None:
        status = self._launch.status
        status.kv_capacity_tokens = vllm_config.cache_config.kv_cache_size_tokens
        self._launch.metrics.set_kv_capacity(status.kv_capacity_tokens)
        scheduler = vllm_config.scheduler_config
        status.max_sequences = (
            scheduler.max_num_active_seqs or scheduler.max_num_seqs
        ) * vllm_config.parallel_config.data_parallel_size
        self._launch.metrics.set_sequences(status.max_sequences)
        status.max_model_length = vllm_config.model_config.max_model_len
