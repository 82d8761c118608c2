"""Model in this process: load it, put the API behind the front, serve, drain.

`launch` imports this module only once the model is present, because it imports ONNX Runtime.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import tokenizers

from slipstream_runtime import logs
from slipstream_runtime.host import front
from slipstream_runtime.host.lifecycle import BEAT_SECONDS, Phase
from slipstream_runtime.host.service import Service
from slipstream_runtime.onnx import api, metrics, probes, providers, session
from slipstream_runtime.onnx.batcher import Batcher
from slipstream_runtime.onnx.exported import Exported
from slipstream_runtime.onnx.launch import Launch
from slipstream_runtime.onnx.tokens import Texts
from slipstream_runtime.recording.journal import Journal
from slipstream_runtime.web import asgi, keyring


def run(launch: Launch, model: Exported) -> None:
    """Load and serve until drained, in a new event loop."""
    config, uri = launch.config, launch.config.model.uri
    launch.life.enter(Phase.LOADING)
    texts = Texts(model, uri=uri, most=config.limits.max_prompt_tokens)
    loaded = session.Session(
        model,
        uri=uri,
        wanted=providers.wanted(config.device, tensorrt=config.tensorrt),
        threads=launch.threads,
        limits=config.batch,
        cache=launch.cache if launch.cache.is_dir() else None,
    )
    _report(launch, model, loaded.providers)
    asyncio.run(_serve(launch, model, texts, loaded))


def _report(launch: Launch, model: Exported, found: providers.Providers) -> None:
    shown: dict[str, object] = {
        "wanted": list(found.wanted),
        "used": list(found.used),
        "missing": list(found.missing),
    }
    launch.status.versions |= {
        "onnxruntime": session.VERSION,
        "tokenizers": tokenizers.__version__,
    }
    launch.status.details |= {"task": model.reading.task, "providers": shown}
    logs.event("provider fallback" if found.fell_back else "providers", **shown)


async def _serve(launch: Launch, model: Exported, texts: Texts, loaded: session.Session) -> None:
    name = launch.config.model.name
    observer = metrics.Metrics(name, clock=time.monotonic)
    (proof,) = texts.singles(["one"], cut=None)
    batcher = Batcher(loaded.run, limits=launch.config.batch, proof=proof, observer=observer)
    observer.watch(batcher, providers=loaded.providers)
    application = api.Api(name=name, model=model, texts=texts, batcher=batcher, observer=observer)
    service = Service(
        application,
        life=launch.life,
        api=launch.api,
        lifespan=False,
        routes=api.ROUTES,
        guard=_guard(launch),
        certificate=launch.config.certificate,
        journal=Journal(name),
    )
    launch.metrics.watch(service.front, engine=observer.registry)
    async with _beating(launch), service.listening():
        work = asyncio.create_task(batcher.serve())
        life = asyncio.create_task(
            service.run(
                probes.build(name, task=model.reading.task),
                linger_seconds=launch.config.linger_seconds,
                drain_seconds=launch.config.drain_seconds,
            )
        )
        await asyncio.wait({work, life}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            life.cancel()
            error = work.exception()
            await service.fail(f"the engine died: {error}", cause=error)
        work.cancel()
        await life


def _guard(launch: Launch) -> front.Guard:
    config = launch.config
    return front.Guard(
        limits=config.limits,
        engine_slots=config.batch.sequences,
        keys=keyring.mounted(config.api_keys) if config.api_keys else None,
        largest=lambda _path: asgi.BODY_LIMIT,
        metrics=launch.metrics.render if config.open_metrics else None,
    )


@contextlib.asynccontextmanager
async def _beating(launch: Launch) -> AsyncIterator[None]:
    """Record heartbeats of this event loop within the context."""

    async def beat() -> None:
        while True:
            launch.life.beat()
            await asyncio.sleep(BEAT_SECONDS)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
