"""Versions of the programs that decide an artifact's bytes."""

import importlib.metadata
import platform
from typing import Final

_PACKAGES: Final = (
    "compressed-tensors", "llmcompressor", "onnx", "onnxruntime", "onnxscript", "safetensors",
    "speculators", "tokenizers", "torch", "torch-pruning", "transformers", "trl",
)  # fmt: skip


def installed() -> dict[str, str]:
    """Return the versions of Python and of the installed packages."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
