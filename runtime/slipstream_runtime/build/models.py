"""Checkpoints as models of transformers: loaded by their own class, and written with all files of their source."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any, Final

import transformers

from slipstream_runtime.errors import UnsuitableError, describe

_WEIGHTS: Final = (
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".msgpack",
    ".h5",
    ".gguf",
    ".onnx",
    ".index.json",
)
"""Endings of the files that hold weights, or list them."""
_WRITTEN: Final = frozenset({"config.json", "recipe.yaml"})
"""Files that a step writes itself."""


def config(folder: Path) -> dict[str, Any]:
    """Return the content of config.json."""
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return found


def load(folder: Path, *, dtype: str = "auto") -> Any:
    """Load the weights by the class that config.json names, so that a classifier keeps its head."""
    transformers.utils.logging.disable_progress_bar()
    names = config(folder).get("architectures") or ["AutoModelForCausalLM"]
    kind = getattr(transformers, names[0], None)
    if kind is None:
        raise UnsuitableError(
            f'source: "{names[0]}" can\'t be built on because transformers {transformers.__version__} does not have'
            " this architecture. Use a checkpoint of an architecture that it has."
        )
    try:
        return kind.from_pretrained(folder, dtype=dtype).eval()
    except (OSError, ValueError, ImportError) as error:
        raise UnsuitableError(f"source: can't be loaded: {describe(error)}") from error


def tokenizer(folder: Path) -> Any:
    """Load the tokenizer."""
    try:
        return transformers.AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, ImportError) as error:
        raise UnsuitableError(
            f"source: its tokenizer can't be loaded: {describe(error)}"
        ) from error


def save(model: Any, source: Path, target: Path) -> None:
    """Write the model, compressed if it is quantized, with the other files of its source."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(target)
    carry_files(source, target)
    for path in target.rglob("*"):
        if path.is_file():
            path.chmod(0o644)


def carry_files(source: Path, target: Path) -> None:
    """Copy tokenizer, chat template, generation_config.json and all other files that are neither weights nor config."""
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source)
        hidden = any(part.startswith(".") for part in name.parts)
        if path.is_file() and not hidden and not _own(name.name):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / name)


def _own(name: str) -> bool:
    return name in _WRITTEN or name.endswith(_WEIGHTS)
