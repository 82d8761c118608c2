"""From the configuration to a serving vLLM: find the weights, decide the arguments, import, load, serve.

What can go wrong without vLLM goes wrong before vLLM is imported, within a second.
"""

import dataclasses
import importlib
import os
import socket
from pathlib import Path
from typing import Any, Final

from slipstream_runtime import contract
from slipstream_runtime.engine import (
    arguments,
    causes,
    checkpoint,
    facts,
    hardware,
    metrics,
    sources,
)
from slipstream_runtime.engine.config import EngineConfig
from slipstream_runtime.engine.errors import EngineError, describe
from slipstream_runtime.engine.lifecycle import Lifecycle, Phase

_SERVING: Final = "slipstream_runtime.engine.serving"


@dataclasses.dataclass(frozen=True)
class Launch:
    """One run of vLLM; `run` belongs on a thread of its own."""

    config: EngineConfig
    life: Lifecycle
    observed: metrics.Metrics
    known: facts.Facts
    api: socket.socket
    errors: Path
    cache: Path

    def run(self) -> None:
        """Serve until drained; EngineError says why it ended otherwise."""
        try:
            self.life.enter(Phase.RESOLVING)
            target, draft = self._weights()
            self.known.arguments = arguments.build(
                self.config, target=target, draft=draft, cpu_flags=hardware.cpu_flags()
            )
            self.life.enter(Phase.IMPORTING)
            serving: Any = importlib.import_module(_SERVING)
            serving.run(self)
        except EngineError:
            raise
        except Exception as error:
            raise EngineError(causes.read(self.errors) or describe(error)) from error

    def _weights(self) -> tuple[arguments.Weights, arguments.Weights | None]:
        uri, speculation = self.config.model.uri, self.config.speculation
        target = self._resolve(uri)
        checkpoint.check(self.config.quantization.method, target.checkpoint, uri=uri)
        if speculation is None or speculation.draft is None:
            return target, None
        return target, self._resolve(speculation.draft)

    def _resolve(self, uri: str) -> arguments.Weights:
        token = os.environ.get(contract.MODEL_TOKEN_ENV) or None
        folder = sources.resolve(sources.parse(uri), cache=self.cache, token=token)
        return arguments.Weights(folder, checkpoint.load(folder, uri=uri))
