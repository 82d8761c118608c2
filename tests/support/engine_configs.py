"""Configurations of engines, and their command lines."""

from pathlib import Path
from typing import Any

from slipstream_runtime.engine import arguments
from slipstream_runtime.engine.checkpoint import Checkpoint
from slipstream_runtime.engine.config import EngineConfig

AVX2 = frozenset({"avx2"})

BF16 = Checkpoint("none", "bf16")

TARGET = arguments.Weights(Path("/m"), BF16)

DRAFT = arguments.Weights(Path("/d"), BF16)


def config(**parts: Any) -> EngineConfig:
    base: dict[str, Any] = {"model": {"uri": "file:///m", "name": "n"}, "drainSeconds": 60}
    return EngineConfig.model_validate({**base, **parts})


def line(
    wanted: EngineConfig,
    *,
    kind: str = "none",
    draft: arguments.Weights | None = None,
    flags: frozenset[str] = AVX2,
) -> str:
    target = arguments.Weights(Path("/m"), Checkpoint(kind, kind))
    return " ".join(arguments.build(wanted, target=target, draft=draft, cpu_flags=flags))
