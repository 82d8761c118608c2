"""Checkpoints as models of transformers, loaded by their own class."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any, Final

import transformers

from slipstream_runtime.errors import UnsuitableError, describe

_GENERATION: Final = "generation_config.json"


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
            f'source: "{names[0]}" can\'t work because transformers {transformers.__version__} does not have this'
            " architecture. Use a checkpoint of an architecture that it has."
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
    """Write weights, compressed if they are quantized, and config.json; generation_config.json stays as it was."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(target)
    (target / _GENERATION).unlink(missing_ok=True)
    if (source / _GENERATION).is_file():
        shutil.copyfile(source / _GENERATION, target / _GENERATION)
