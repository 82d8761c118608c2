"""Start of a vLLM engine: find the weights, decide the arguments, import, load, serve.

All checks that need no vLLM run before vLLM is imported, and fail within a second.
"""

import contextlib
import dataclasses
import functools
import gc
import importlib
import importlib.util
import os
import socket
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from slipstream_runtime import contract
from slipstream_runtime.engine import (
    adapters,
    arguments,
    causes,
    chat_templates,
    checkpoint,
    environment,
    families,
    group,
    offload,
)
from slipstream_runtime.engine.config import EngineConfig
from slipstream_runtime.errors import EngineError, UnsuitableError, describe
from slipstream_runtime.host.lifecycle import Lifecycle, Phase
from slipstream_runtime.host.metrics import Metrics
from slipstream_runtime.host.status import EngineStatus
from slipstream_runtime.machine import gpu, hardware, memory
from slipstream_runtime.model_files import sources

_SERVING: Final = "slipstream_runtime.engine.serving"
_HEADLESS: Final = "slipstream_runtime.engine.headless"


@dataclasses.dataclass(frozen=True)
class Launch:
    """Run of vLLM; call `run` on its own thread."""

    config: EngineConfig
    life: Lifecycle
    metrics: Metrics
    status: EngineStatus
    api: socket.socket
    errors: Path
    tally: Path
    cache: Path
    kills: int | None = None
    """Out-of-memory kills that the kernel had counted when this process started; None if unknown."""

    @property
    def stop_seconds(self) -> float:
        """Return the longest time in seconds between SIGTERM and the end of the last running request."""
        return self.config.linger_seconds + self.config.drain_seconds

    @property
    def forks(self) -> bool:
        """Whether the engine core is forked from this process."""
        return self.config.device == "cpu" and self.config.single

    def run(self) -> None:
        """Serve until drained; EngineError after a failure."""
        try:
            self.life.enter(Phase.RESOLVING)
            capability = gpu.check().capability if self.config.device == "cuda" else None
            member = group.member(os.environ, nodes=self.config.nodes)
            target, draft = self.weights
            checkpoint.check_gpu(target.checkpoint, capability, uri=self.config.model.uri)
            self.status.arguments = arguments.build(
                self.config,
                target=target,
                draft=draft,
                cpu_flags=hardware.cpu_flags(),
                capability=capability,
                adapter_rank=self.adapter_rank if self.config.adapters else None,
                member=member,
            )
            if member is not None and not member.leads:
                self._join(member)
                return
            if (limit := self.config.cache.offload_disk_bytes) is not None:
                offload.Pruner(Path(contract.OFFLOAD_DIRECTORY), limit=limit).start()
            self.life.enter(Phase.IMPORTING)
            models = [each for each in (target, draft) if each is not None]
            _import(_SERVING).run(
                self, {name for each in models for name in each.checkpoint.architectures}
            )
        except EngineError:
            raise
        except Exception as error:
            raise EngineError(self.cause or describe(error)) from error

    @property
    def cause(self) -> str | None:
        """Why vLLM failed, by its log; None if it says nothing."""
        return causes.read(self.errors, out_of_memory=self.out_of_memory)

    @property
    def out_of_memory(self) -> bool | None:
        """Whether the kernel has killed a process of this container since the start because memory ran out."""
        now = memory.kills()
        return None if now is None or self.kills is None else now > self.kills

    def _join(self, member: group.Member) -> None:
        """Compute for the leader of the group."""
        ask = group.asking(member)
        group.wait(member, ask)
        self.life.enter(Phase.IMPORTING)
        _import(_HEADLESS).run(self, member, ask)

    @functools.cached_property
    def weights(self) -> tuple[arguments.Weights, arguments.Weights | None]:
        """Weights of the model, and of its draft model or head."""
        uri, speculation = self.config.model.uri, self.config.speculation
        if speculation is not None and speculation.method == "suffix":
            _check_suffix()
        if self.config.load == "streamed":
            _check_streamer()
        target = self._resolve(uri)
        template = chat_templates.given(self.config.model, target.folder)
        if template is not None:
            target = dataclasses.replace(target, template=template)
        checkpoint.check(self.config.quantization.method, target.checkpoint, uri=uri)
        checkpoint.check_window(self.config.attention.sliding_window, target.checkpoint, uri=uri)
        if speculation is None or speculation.draft is None:
            return target, None
        draft = self._resolve(speculation.draft)
        checkpoint.check(
            speculation.draft_quantization,
            draft.checkpoint,
            uri=speculation.draft,
            field="spec.speculation.draftQuantization",
        )
        return target, draft

    @functools.cached_property
    def adapter_rank(self) -> int:
        """Highest rank of an adapter that fits; it covers the adapters that are listed and found at the start."""
        assert self.config.adapters is not None
        ranks, listed = [], {}
        with contextlib.suppress(EngineError):  # reported once the list is followed
            listed = adapters.wanted(self.config.adapters.file)
        for uri in listed.values():
            with contextlib.suppress(EngineError):  # reported when the adapter is loaded
                ranks.append(adapters.find(uri, cache=self.cache, token=sources.token()).rank)
        return adapters.max_rank(self.config.adapters, ranks)

    def _resolve(self, uri: str) -> arguments.Weights:
        folder = sources.resolve(sources.parse(uri), cache=self.cache, token=sources.token())
        found = checkpoint.load(folder, uri=uri)
        return arguments.Weights(folder, found, families.template(folder))


def _import(name: str) -> Any:
    """Import a module with the garbage collector off, which saves a quarter of the time for vLLM's 6,000 modules.

    The objects of the import are excluded from later collections, and so stay shared with a forked core."""
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.freeze()
        gc.enable()


def _check_suffix() -> None:
    if importlib.util.find_spec("arctic_inference") is None:
        raise UnsuitableError(
            'spec.speculation.method: "suffix" needs arctic-inference, which this image lacks. '
            "Use ngram, or an image that holds it."
        )


def _check_streamer() -> None:
    if importlib.util.find_spec("runai_model_streamer") is None:
        raise UnsuitableError(
            'spec.model.load: "Streamed" can\'t work because this image lacks runai-model-streamer. '
            "Leave it out, or use an image that holds it."
        )


def prepare(config: EngineConfig, *, api: socket.socket) -> Launch:
    """Return a launch in this process, after setting the environment variables that vLLM reads at import."""
    folder = Path(tempfile.mkdtemp(prefix="slipstream-"))
    errors, logging_config = folder / "errors.log", folder / "logging.json"
    logging_config.write_text(causes.logging_config(errors))
    cache = sources.cache_folder()
    os.environ.update(
        environment.build(
            config,
            present=os.environ,
            cores=config.cores or hardware.usable_cores(),
            # NB: later adapters may be on the hub, and libraries read these variables at import.
            local=config.adapters is None and all(sources.parse(uri).local for uri in config.uris),
            cache=cache if cache.is_dir() else None,
            scratch=Path(contract.SCRATCH_DIRECTORY),
            logging_config=logging_config,
        )
    )
    life = Lifecycle(clock=time.monotonic)
    status, metrics = EngineStatus(config.model.name), Metrics(life)
    metrics.watch_adapters(status.adapters)
    return Launch(
        config=config,
        life=life,
        metrics=metrics,
        status=status,
        api=api,
        errors=errors,
        tally=folder / "speculation",
        cache=cache,
        kills=memory.kills(),
    )
