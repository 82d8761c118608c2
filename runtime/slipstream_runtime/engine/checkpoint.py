"""Quantization of a checkpoint, and the check that it is what the service requests.

Pure: the content of config.json is an argument, except in `load`.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from slipstream_runtime.errors import EngineError, UnsuitableError
from slipstream_runtime.model_files import selection

_DTYPES: Final = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
_OWN_METHODS: Final = {
    "awq": "awq",
    "awq_marlin": "awq",
    "gptq": "gptq",
    "gptq_marlin": "gptq",
    "fp8": "fp8",
    "fbgemm_fp8": "fp8",
    "mxfp4": "mxfp4",
    "gpt_oss_mxfp4": "mxfp4",
}
"""quant_method of config.json -> kind, where the method alone determines it."""
_CHOICES: Final = frozenset({"fp8", "int8", "int4", "awq", "gptq", "nvfp4", "mxfp4"})
"""Kinds that spec.quantization.method can name."""
BLACKWELL: Final = (10, 0)
"""First compute capability without int8 tensor core instructions that vLLM uses."""
_FP4_GROUPS: Final = {16: "nvfp4", 32: "mxfp4"}
"""Size of a group of weights with one scale -> kind of 4-bit floating point in compressed-tensors."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Quantization of a checkpoint: `kind` is `none`, a method of the service, or vLLM's name of another method."""

    kind: str
    detail: str
    window: Literal["config", "text_config"] | None = None
    """Part of config.json with the size of the layers' sliding window; None without one."""
    architectures: tuple[str, ...] = ()
    """Names in vLLM's model registry."""

    @property
    def quantized(self) -> bool:
        """Whether the weights are already quantized."""
        return self.kind != "none"


def load(folder: Path, *, uri: str) -> Checkpoint:
    """Read the folder's config.json, or the params.json of Mistral's format."""
    name = "config.json"
    if not (folder / name).exists() and (folder / selection.MISTRAL_CONFIG).is_file():
        name = selection.MISTRAL_CONFIG
    try:
        found = json.loads((folder / name).read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise EngineError(f"{uri}: {name} can't be read: {error}") from error
    if not isinstance(found, dict):
        raise EngineError(f"{uri}: {name} is not a JSON object.")
    if name == selection.MISTRAL_CONFIG:
        return _mistral(found)
    named = found.get("architectures")
    architectures = tuple(map(str, named)) if isinstance(named, list) else ()
    try:
        return dataclasses.replace(read(found), architectures=architectures)
    except (AttributeError, TypeError, ValueError, LookupError) as error:
        raise UnsuitableError(
            f"{uri}: config.json is malformed: its quantization_config, compression_config, text_config or layer_types "
            "has a different form from the one that transformers writes. Use the config.json of the model's publisher."
        ) from error


def _mistral(params: Mapping[str, Any]) -> Checkpoint:
    """Read the quantization of a model in Mistral's format, as vLLM does."""
    quantization = params.get("quantization")
    if not quantization:
        return Checkpoint("none", "not quantized")
    if not isinstance(quantization, Mapping):
        return Checkpoint("unknown", "of an unnamed method")
    if quantization.get("qformat_weight") == "fp8_e4m3":
        return Checkpoint("fp8", "fp8_e4m3")
    return _weights({"quantization_config": quantization})


def read(config: Mapping[str, Any]) -> Checkpoint:
    """Read the quantization and the attention window from a checkpoint's config.json."""
    return dataclasses.replace(_weights(config), window=_window(config))


def _weights(config: Mapping[str, Any]) -> Checkpoint:
    text = config.get("text_config") or {}
    quantization = (
        config.get("quantization_config")
        or text.get("quantization_config")
        or config.get("compression_config")
    )
    if not quantization:
        dtype = _first(config, text, keys=("dtype", "torch_dtype"))
        return Checkpoint("none", _DTYPES.get(str(dtype), "not quantized"))
    method = str(quantization.get("quant_method", "")).lower()
    if method == "compressed-tensors" or (not method and "config_groups" in quantization):
        return _compressed(quantization)
    if method.startswith("modelopt"):
        algorithm = str(quantization.get("quant_algo", "")).upper()
        return Checkpoint(_modelopt(algorithm), f"ModelOpt {algorithm}")
    bits = quantization.get("bits") or quantization.get("w_bit")
    detail = f"{method} with {bits} bits" if bits else method or "of an unnamed method"
    return Checkpoint(_OWN_METHODS.get(method, method or "unknown"), detail)


def check(
    method: str, found: Checkpoint, *, uri: str, field: str = "spec.quantization.method"
) -> None:
    """Raise UnsuitableError if the checkpoint's quantization is not the requested one."""
    if method == "auto" or method == found.kind:
        return
    if method == "fp8" and not found.quantized:
        return
    instead = found.kind if found.kind in _CHOICES else "auto" if found.quantized else "fp8"
    if method == "none":
        needs, wanted = "an unquantized checkpoint", "an unquantized checkpoint"
    elif method == "fp8":
        needs, wanted = "an unquantized or fp8 checkpoint", "an unquantized checkpoint"
    else:
        needs, wanted = (
            f"a checkpoint that is already {method}",
            f"a checkpoint quantized to {method}",
        )
    is_what = found.kind if found.quantized else found.detail
    if found.quantized and found.detail.lower() != found.kind:
        is_what = f"{found.kind} ({found.detail})"
    raise UnsuitableError(
        f'{field}: "{method}" needs {needs}; {uri} is {is_what}. Use {instead}, or {wanted}.'
    )


def check_gpu(found: Checkpoint, capability: tuple[int, int] | None, *, uri: str) -> None:
    """Raise UnsuitableError if vLLM would load the checkpoint and then fail at its first matrix product."""
    if found.kind == "int8" and found.detail.endswith("A8") and (capability or (0, 0)) >= BLACKWELL:
        raise UnsuitableError(
            f"spec.model.uri: {uri} is int8 ({found.detail}), and vLLM has no such kernel for GPUs of compute "
            f"capability {'.'.join(map(str, capability or ()))}. Use an fp8 checkpoint, or H100 or older GPUs."
        )


def check_window(size: int | None, found: Checkpoint, *, uri: str) -> None:
    """Raise UnsuitableError if the service sets a sliding window and the model has none."""
    if size is not None and found.window is None:
        raise UnsuitableError(
            f"spec.attention.slidingWindow: {size} needs a model whose layers have a sliding window; {uri} has none. "
            "Leave it out, or bound the context by spec.model.maxLength."
        )


def _window(config: Mapping[str, Any]) -> Literal["config", "text_config"] | None:
    parts: tuple[Literal["config", "text_config"], ...] = ("config", "text_config")
    for name in parts:
        part = config if name == "config" else config.get(name) or {}
        layers = part.get("layer_types")
        if (
            part.get("sliding_window")
            and part.get("use_sliding_window", True)
            and (layers is None or "sliding_attention" in layers)
        ):
            return name
    return None


def _compressed(quantization: Mapping[str, Any]) -> Checkpoint:
    """Return the kind by the widths and types of weights and activations in compressed-tensors."""
    groups: Iterable[Any] = (quantization.get("config_groups") or {}).values()
    kinds = {_group(group) for group in groups if isinstance(group, Mapping)}
    if len(kinds) == 1:
        kind, scheme = kinds.pop()
        return Checkpoint(kind, f"compressed-tensors {scheme}")
    return Checkpoint("mixed", "compressed-tensors of several schemes") if kinds else _unnamed()


def _group(group: Mapping[str, Any]) -> tuple[str, str]:
    weights = group.get("weights") or {}
    activations = group.get("input_activations") or {}
    bits, kind = weights.get("num_bits"), str(weights.get("type", "int"))
    scheme = f"W{bits}A{activations.get('num_bits', 16)}"
    prefix = "fp" if kind == "float" else "int"
    if prefix == "fp" and bits == 4:
        return _FP4_GROUPS.get(weights.get("group_size", 0), "fp4"), scheme
    return f"{prefix}{bits}", scheme


def _modelopt(algorithm: str) -> str:
    """Return the kind of one of ModelOpt's algorithms; its own name in lower case where no method can name it."""
    if algorithm.startswith("FP8"):
        return "fp8"
    return "nvfp4" if "NVFP4" in algorithm else algorithm.lower() or "unknown"


def _unnamed() -> Checkpoint:
    return Checkpoint("unknown", "compressed-tensors without a scheme")


def _first(*places: Mapping[str, Any], keys: tuple[str, ...]) -> object:
    return next((place[key] for place in places for key in keys if place.get(key)), None)
