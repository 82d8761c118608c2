"""Checkpoints as models of transformers, loaded by their own class."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any, Final

import torch
import transformers

from slipstream_runtime.errors import UnsuitableError, describe

_GENERATION: Final = "generation_config.json"
_CHECKED: Final = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Types of weights that can be infinite or no number at all. Formats with fewer bits are made of these."""
_ANY: Final = "AutoModelForCausalLM"
"""Class of a checkpoint that names no architecture."""


def config(folder: Path) -> dict[str, Any]:
    """Return the content of config.json."""
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return found


def load(folder: Path, *, dtype: str = "auto") -> Any:
    """Load the weights by the class that config.json names, so that a classifier keeps its head."""
    transformers.utils.logging.disable_progress_bar()
    names = config(folder).get("architectures") or [_ANY]
    kind: Any = getattr(transformers, str(names[0]), None)
    if names[0] != _ANY and not _is_model(kind):
        raise UnsuitableError(
            f'source: "{names[0]}" can\'t work because transformers {transformers.__version__} does not have this'
            " architecture. Use a checkpoint of an architecture that it has."
        )
    try:
        # NB: without a value, transformers asks on the terminal whether to run the code of a checkpoint.
        return kind.from_pretrained(folder, dtype=dtype, trust_remote_code=False).eval()
    except (OSError, ValueError, ImportError) as error:
        raise UnsuitableError(f"source: can't be loaded: {describe(error)}") from error


def _check_finite(model: Any) -> None:
    for name, weight in model.named_parameters():
        if weight.dtype in _CHECKED and not bool(weight.isfinite().all()):
            raise UnsuitableError(
                f"{name} has values that are not finite after this step. Use a smaller learningRate of its training, "
                "another method, or a source without such values."
            )


def _is_model(kind: object) -> bool:
    """Whether config.json names a class of models, and not another part of the library."""
    return isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)


def tokenizer(folder: Path) -> Any:
    """Load the tokenizer."""
    try:
        return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        problem = describe(error)
        if "custom code" in problem:
            problem = (
                "it needs code of the checkpoint, and builds run none. Use a checkpoint whose tokenizer transformers "
                "has itself"
            )
        raise UnsuitableError(f"source: its tokenizer can't be loaded: {problem}") from error


def save(model: Any, source: Path, target: Path) -> None:
    """Write weights, compressed if they are quantized, and config.json; generation_config.json stays as it was.

    UnsuitableError if a weight is no finite number.
    """
    _check_finite(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(target)
    (target / _GENERATION).unlink(missing_ok=True)
    if (source / _GENERATION).is_file():
        shutil.copyfile(source / _GENERATION, target / _GENERATION)
