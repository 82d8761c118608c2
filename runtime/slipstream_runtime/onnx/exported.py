"""Exported model's folder: its graph, its task, and how its output is read.

Pure, except for `load`. The rules are those of Sentence Transformers and vLLM.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from slipstream_runtime.errors import EngineError, UnsuitableError
from slipstream_runtime.model_files import selection

FILES: Final = (
    "*.json",
    "*.txt",
    "model.onnx",
    "model.onnx_data",
    "model.onnx.data",
    "onnx/model.onnx",
    "onnx/model.onnx_data",
    "onnx/model.onnx.data",
)
"""Patterns of the needed files; other files are the same model in other formats."""

Task = Literal["embed", "rerank", "classify"]
Pooling = Literal["mean", "cls", "max", "lasttoken", "none"]
Activation = Literal["identity", "sigmoid", "softmax"]

_GRAPHS: Final = ("model.onnx", "onnx/model.onnx")
_POOLINGS: Final[Mapping[str, Pooling]] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "lasttoken",
    "mean": "mean",
    "cls": "cls",
    "max": "max",
    "lasttoken": "lasttoken",
}
_MOST_LABELS: Final = 100_000
"""Labels of a classifier: more than ImageNet-21k has."""
_READ: Final = "config.json, tokenizer_config.json, sentence_bert_config.json or modules.json"
_MODULES: Final = ("Transformer", "Pooling", "Normalize")
_OFFSET_POSITIONS: Final = frozenset(
    {"roberta", "xlm-roberta", "camembert", "longformer", "mpnet", "xlm-roberta-xl"}
)
"""Model types that count positions from the id of the padding token, so that they have fewer than config.json says."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """Task of a model, and the format of its inputs and outputs."""

    task: Task
    pooling: Pooling
    normalize: bool
    activation: Activation
    labels: tuple[str, ...]
    length: int
    """Tokens of a sequence that the model was trained for."""
    positions: int
    """Tokens of a sequence that the model accepts, at most."""
    vocabulary: int | None
    padding: int
    lower_case: bool


@dataclasses.dataclass(frozen=True)
class Exported:
    """Files of an exported model, and how to read its output."""

    graph: Path
    tokenizer: Path
    max_length: int
    reading: Reading


def load(folder: Path, *, uri: str, max_length: int | None) -> Exported:
    """Read a model's folder; `max_length` is the service's limit in tokens."""
    graph = next((folder / name for name in _GRAPHS if (folder / name).is_file()), None)
    if graph is None:
        raise EngineError(
            f"{uri}: has neither model.onnx nor onnx/model.onnx, which runtime onnx needs. Export the model "
            "(python -m slipstream_runtime.onnx.export), or use runtime: vllm."
        )
    tokenizer = folder / "tokenizer.json"
    if not tokenizer.is_file():
        raise EngineError(
            f"{uri}: has no tokenizer.json. Export the model again with its tokenizer."
        )
    try:
        reading = _reading(folder, uri=uri)
    except (AttributeError, TypeError, ValueError, LookupError, OverflowError) as error:
        raise UnsuitableError(
            f"{uri}: {_READ} can't be read, because a value has another type than Sentence Transformers writes: "
            f"{error}. Export the model again."
        ) from error
    if max_length is not None and max_length > reading.positions:
        raise UnsuitableError(
            f"spec.model.maxLength: {max_length} is more than the {reading.positions} positions of {uri}. "
            "Use a lower value, or leave it out."
        )
    return Exported(graph, tokenizer, max_length or reading.length, reading)


def _reading(folder: Path, *, uri: str) -> Reading:
    modules = _json(folder / "modules.json", uri=uri)
    pooling = next((entry for entry in modules or () if _kind(entry) == "Pooling"), None)
    path = pooling.get("path", "") if pooling else ""
    if path:
        selection.check_name(path, uri=uri)
    return read(
        config=_json(folder / "config.json", uri=uri) or {},
        tokenizer=_json(folder / "tokenizer_config.json", uri=uri) or {},
        sentence=_json(folder / "sentence_bert_config.json", uri=uri) or {},
        modules=modules,
        pooling=_json(folder / path / "config.json", uri=uri) if pooling else None,
        uri=uri,
    )


def read(
    *,
    config: Mapping[str, Any],
    tokenizer: Mapping[str, Any],
    sentence: Mapping[str, Any],
    modules: Sequence[Mapping[str, Any]] | None,
    pooling: Mapping[str, Any] | None,
    uri: str,
) -> Reading:
    """Return the reading of a model from the content of its JSON files."""
    unknown = [_kind(entry) for entry in modules or () if _kind(entry) not in _MODULES]
    if unknown:
        raise UnsuitableError(
            f"{uri}: modules.json lists {', '.join(unknown)}, and runtime onnx supports {', '.join(_MODULES)}. "
            "Use runtime: vllm."
        )
    labels = _labels(config)
    task = _task(config, modules=modules, labels=len(labels), uri=uri)
    positions = _positions(config)
    wished = [sentence.get("max_seq_length"), tokenizer.get("model_max_length")]
    length = min([positions, *(int(length) for length in wished if length)])
    if length < 1:
        raise ValueError(f"a length of {length} tokens")
    return Reading(
        task=task,
        pooling=_pooling(pooling, uri=uri) if task == "embed" else "none",
        # NB: like vLLM: vectors have unit length, unless the model's own list of modules has no Normalize.
        normalize=task == "embed" and (modules is None or "Normalize" in map(_kind, modules)),
        activation=_activation(config, labels=len(labels), uri=uri),
        labels=labels if task == "classify" else (),
        length=length,
        positions=positions,
        vocabulary=_count(config, "vocab_size"),
        padding=_count(config, "pad_token_id") or 0,
        lower_case=bool(sentence.get("do_lower_case")),
    )


def _task(
    config: Mapping[str, Any],
    *,
    modules: Sequence[Mapping[str, Any]] | None,
    labels: int,
    uri: str,
) -> Task:
    architecture = next(iter(config.get("architectures") or ()), "")
    if architecture.endswith("ForSequenceClassification"):
        return "rerank" if labels == 1 else "classify"
    if architecture.endswith("Model") or modules is not None:
        return "embed"
    raise UnsuitableError(
        f'{uri}: is a "{architecture}", and runtime onnx serves encoders (...Model, or with a modules.json) and '
        "...ForSequenceClassification. Use runtime: vllm."
    )


def _labels(config: Mapping[str, Any]) -> tuple[str, ...]:
    names = config.get("id2label")
    if isinstance(names, Mapping):
        return tuple(str(names[key]) for key in sorted(names, key=int))
    count = config.get("num_labels", 2)
    if count > _MOST_LABELS:
        raise ValueError(f"num_labels is more than {_MOST_LABELS}")
    return tuple(f"LABEL_{index}" for index in range(count))


def _count(config: Mapping[str, Any], key: str) -> int | None:
    value = config.get(key)
    if value is not None and (type(value) is not int or value < 0):
        raise ValueError(f"{key} is no count")
    return value


def _positions(config: Mapping[str, Any]) -> int:
    positions = int(config.get("max_position_embeddings") or config.get("n_positions") or 512)
    if config.get("model_type") in _OFFSET_POSITIONS:
        return positions - int(config.get("pad_token_id") or 0) - 1
    return positions


def _pooling(pooling: Mapping[str, Any] | None, *, uri: str) -> Pooling:
    if pooling is None:
        return "mean"
    named = pooling.get("pooling_mode")
    chosen = [named] if isinstance(named, str) else []
    chosen += [
        key for key, value in pooling.items() if key.startswith("pooling_") and value is True
    ]
    if len(chosen) != 1 or chosen[0] not in _POOLINGS:
        raise UnsuitableError(
            f"{uri}: pools by {', '.join(chosen) or 'nothing'}, and runtime onnx by one of mean, cls, max and "
            "lasttoken. Use runtime: vllm."
        )
    return _POOLINGS[chosen[0]]


def _activation(config: Mapping[str, Any], *, labels: int, uri: str) -> Activation:
    usual: Activation = "sigmoid" if labels == 1 else "softmax"
    by_problem: dict[str, Activation] = {
        "regression": "identity",
        "single_label_classification": usual,
        "multi_label_classification": "sigmoid",
    }
    problem = config.get("problem_type")
    if problem in by_problem:
        return by_problem[problem]
    named = (config.get("sentence_transformers") or {}).get("activation_fn") or config.get(
        "sbert_ce_default_activation_function"
    )
    match (named or "usual").rpartition(".")[2]:
        case "Identity":
            return "identity"
        case "usual" | "Sigmoid" | "Softmax":
            return usual
        case other:
            raise UnsuitableError(
                f"{uri}: needs the activation {other}, and runtime onnx has Identity, Sigmoid and Softmax. "
                "Use runtime: vllm."
            )


def _kind(module: Mapping[str, Any]) -> str:
    return str(module.get("type", "")).rpartition(".")[2]


def _json(path: Path, *, uri: str) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise EngineError(f"{uri}: {path.name} can't be read: {error}") from error
