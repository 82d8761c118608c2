"""Report on checkpoints, which the operator reads as JSON from the pod's termination message.

Pure: sizes and the content of config.json are arguments.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from slipstream_runtime import contract

LIMIT_BYTES: Final = 4095
"""Bytes of a termination message that the kubelet keeps, less the line end."""
_WEIGHTS: Final = (".safetensors", ".bin", ".pt", ".gguf")


def facts(uri: str, sizes: Mapping[str, int], config: bytes | None) -> dict[str, Any]:
    """Return the facts about one checkpoint."""
    weights = sum(size for name, size in sizes.items() if name.endswith(_WEIGHTS))
    found: dict[str, Any] = {"uri": uri, "bytes": weights}
    if config is not None and (kept := _config(config)):
        found["config"] = kept
    return found


def text(model: Mapping[str, Any] | None, draft: Mapping[str, Any] | None) -> str:
    """Return the report; if it is too long, the draft's config is left out first, then the model's."""
    given = {"model": model, "draft": draft}
    report = {name: dict(entry) for name, entry in given.items() if entry is not None}
    for name in ("", "draft", "model"):
        report.get(name, {}).pop("config", None)
        written = json.dumps(report, separators=(",", ":"))
        if len(written.encode()) <= LIMIT_BYTES:
            return written
    return "{}"


def _config(content: bytes) -> dict[str, Any]:
    try:
        config = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(config, dict):
        return {}
    kept = _only(config, contract.FACT_KEYS)
    for part in contract.FACT_PARTS:
        if isinstance(config.get(part), dict):
            kept[part] = _only(config[part], contract.FACT_KEYS)
    quantization = config.get(contract.FACT_QUANTIZATION)
    if isinstance(quantization, dict):
        kept[contract.FACT_QUANTIZATION] = _only(quantization, contract.FACT_QUANTIZATION_KEYS)
    return kept


def _only(config: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: config[key] for key in keys if config.get(key) is not None}
