"""Start of an ONNX Runtime engine: find the model, read its description, import, load, serve.

All checks that need no ONNX Runtime run before it is imported.
"""

import dataclasses
import importlib
import os
import socket
import time
from pathlib import Path
from typing import Any, Final

from slipstream_runtime.errors import EngineError, describe
from slipstream_runtime.host.lifecycle import Lifecycle, Phase
from slipstream_runtime.host.metrics import Metrics
from slipstream_runtime.host.status import EngineStatus
from slipstream_runtime.machine import gpu, hardware
from slipstream_runtime.model_files import sources
from slipstream_runtime.onnx import exported
from slipstream_runtime.onnx.config import OnnxConfig

_SERVING: Final = "slipstream_runtime.onnx.serving"


@dataclasses.dataclass(frozen=True)
class Launch:
    """Run of a model; call `run` on its own thread."""

    config: OnnxConfig
    life: Lifecycle
    metrics: Metrics
    status: EngineStatus
    api: socket.socket
    cache: Path

    @property
    def stop_seconds(self) -> float:
        """Longest time in seconds between SIGTERM and the end of the last running request."""
        return self.config.linger_seconds + self.config.drain_seconds

    @property
    def threads(self) -> int:
        """Threads of ONNX Runtime and of the tokenizer."""
        return self.config.cores or hardware.usable_cores()

    def run(self) -> None:
        """Serve until drained; EngineError after a failure."""
        try:
            self.life.enter(Phase.RESOLVING)
            if self.config.device == "cuda":
                gpu.check()
            model = self._model()
            self.status.max_model_length = model.max_length
            self.life.enter(Phase.IMPORTING)
            serving: Any = importlib.import_module(_SERVING)
            serving.run(self, model)
        except EngineError:
            raise
        except Exception as error:
            raise EngineError(describe(error)) from error

    def _model(self) -> exported.Exported:
        uri = self.config.model.uri
        folder = sources.resolve(
            sources.parse(uri),
            cache=self.cache,
            token=sources.token(),
            files=exported.FILES,
        )
        return exported.load(folder, uri=uri, max_length=self.config.model.max_length)


def prepare(config: OnnxConfig, *, api: socket.socket) -> Launch:
    """Return a launch in this process, after setting the environment variables that libraries read at import."""
    life = Lifecycle(clock=time.monotonic)
    launch = Launch(
        config=config,
        life=life,
        metrics=Metrics(life),
        status=EngineStatus(config.model.name),
        api=api,
        cache=sources.cache_folder(),
    )
    os.environ.setdefault("RAYON_NUM_THREADS", str(launch.threads))
    os.environ.setdefault("DO_NOT_TRACK", "1")
    if sources.parse(config.model.uri).local:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    return launch
