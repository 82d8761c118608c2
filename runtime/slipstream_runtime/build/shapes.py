"""Sizes of a checkpoint by its config.json, and the cost of compressing it. Pure: nothing is loaded."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from slipstream_runtime import build_support
from slipstream_runtime.build.recipe import Samples, Training
from slipstream_runtime.build.steps.step import Checkpoint, Estimate

LIBRARIES: Final = 1_200_000_000
"""Bytes of a process that has loaded torch, transformers and llm-compressor and traced a model (measured: 1.13 GB)."""
SAMPLES: Final = 512
"""Number of samples in an estimate if the recipe takes the whole dataset: llm-compressor's own default."""
FLOPS: Final[Mapping[build_support.Device, float]] = {"cpu": 3e10, "cuda": 1e14}
"""Operations a second: of one core with AVX-512 in bfloat16 (measured), of an H100 at a tenth of its peak."""
_START: Final = 20.0
"""Seconds for loading the libraries (measured: 12 to 25)."""
_BYTES_PER_SECOND: Final = 200_000_000
"""Rate of reading, rounding and writing weights (measured on one core)."""
_MERGED: Final = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("mlp.gate_proj", "mlp.up_proj"),
)
"""Layers that vLLM merges, so that they need the same scheme."""
_EXPERTS: Final = ("num_experts", "num_local_experts", "n_routed_experts")
_OTHER_INPUTS: Final = ("vision_config", "audio_config", "speech_config")


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a decoder or encoder."""

    layers: int
    hidden: int
    inner: int
    """Width of the feed-forward block."""
    heads: int
    key_value_heads: int
    head: int
    """Width of one attention head."""
    vocabulary: int
    embedding: int
    """Parameters of the embedding and of an output that is not tied to it; they are never compressed."""

    @property
    def attention(self) -> int:
        """Return the width of the input of the attention's last matrix."""
        return self.heads * self.head

    @property
    def widest(self) -> int:
        """Return the greatest number of inputs of a linear layer."""
        return max(self.hidden, self.inner, self.attention)

    @property
    def inputs(self) -> Mapping[str, int]:
        """Return the number of inputs of each kind of linear layer, under the name of its first module."""
        first = "model.layers.0"
        return {
            f"{first}.self_attn.q_proj": self.hidden,
            f"{first}.self_attn.o_proj": self.attention,
            f"{first}.mlp.down_proj": self.inner,
        }


def shape(config: Mapping[str, Any]) -> Shape:
    """Return the sizes; those that config.json leaves out are as in BERT, and an output is taken as not tied."""
    config = text(config)
    hidden = int(config.get("hidden_size") or 0)
    heads = int(config.get("num_attention_heads") or 1)
    vocabulary = int(config.get("vocab_size") or 0)
    tied = config.get("tie_word_embeddings", False)
    return Shape(
        layers=int(config.get("num_hidden_layers") or 1),
        hidden=hidden,
        inner=int(config.get("intermediate_size") or 4 * hidden),
        heads=heads,
        key_value_heads=int(config.get("num_key_value_heads") or heads),
        head=int(config.get("head_dim") or hidden // heads),
        vocabulary=vocabulary,
        embedding=vocabulary * hidden * (1 if tied else 2),
    )


def text(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part about text, which models for several media nest."""
    nested = config.get("text_config")
    return nested if isinstance(nested, Mapping) else config


def unsupported(config: Mapping[str, Any]) -> str | None:
    """Return the reason why no step can change the weights of this checkpoint, with a remedy."""
    if method := (config.get("quantization_config") or {}).get("quant_method"):
        return f"the source is quantized already, by {method}. Use the checkpoint that it was made from"
    if "auto_map" in config:
        return (
            "the source has auto_map in config.json, and builds run no code of a checkpoint. Use an architecture that"
            " transformers has itself"
        )
    for name in _OTHER_INPUTS:
        if name in config:
            return f"the source has {name}, and builds know text alone. Use a checkpoint of text"
    return None


def experts(config: Mapping[str, Any]) -> bool:
    """Whether the model is a mixture of experts."""
    return any(int(config.get(name) or 0) > 1 for name in _EXPERTS)


def invalid(patterns: Sequence[str]) -> str | None:
    """Return the first pattern of a recipe that is no regular expression; None if there is none."""
    for pattern in patterns:
        if pattern.startswith("re:"):
            try:
                re.compile(pattern[3:])
            except re.error:
                return pattern
    return None


def ignored(module: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern of a recipe names the module: by its whole name, or by an expression after `re:`."""
    return any(
        re.match(pattern[3:], module) is not None
        if pattern.startswith("re:")
        else pattern == module
        for pattern in patterns
    )


def torn(patterns: Sequence[str]) -> tuple[str, ...]:
    """Return layers that vLLM merges into one, of which the patterns of a recipe name some but not all."""
    for merged in _MERGED:
        named = [ignored(f"model.layers.0.{name}", patterns) for name in merged]
        if any(named) and not all(named):
            return merged
    return ()


def indivisible(config: Mapping[str, Any], group: int, patterns: Sequence[str]) -> int | None:
    """Return a number of inputs that no whole number of groups makes; None if all linear layers fit."""
    inputs = shape(config).inputs
    wrong = [n for name, n in inputs.items() if n % group and not ignored(name, patterns)]
    return wrong[0] if wrong else None


def quantized_bytes(source: Checkpoint, bits: float) -> int:
    """Return bytes after quantization: the embedding as it is, the other parameters at `bits` with their scales."""
    embedding = min(shape(source.config).embedding, source.parameters)
    each = source.bytes / max(1, source.parameters)
    return round(embedding * each + (source.parameters - embedding) * bits / 8)


def samples(part: Samples | None) -> tuple[int, int]:
    """Return the number of samples and their greatest length."""
    return (0, 0) if part is None else (part.samples or SAMPLES, part.max_length)


def compression_cost(
    source: Checkpoint,
    device: build_support.Device,
    *,
    samples: tuple[int, int],
    hessians: bool,
    calibrations: int,
    result: int,
) -> Estimate:
    """Return the cost of one run of llm-compressor.

    Memory holds the libraries, the weights, and a copy of the result while it is written. Every token of the samples
    has two sets of activations, inputs and outputs of a block, in the width of the model. Inside a block one sample
    makes about 34 values a token and channel. GPTQ and SparseGPT add four float32 matrices of the widest input,
    squared: its Hessian, the inverse, and their copies.
    On a GPU the weights stay in the memory of the host, and only one block at a time is on the device.
    Seconds: the start, reading and writing the weights, and 2 operations a parameter and token, twice a calibration.
    Hessians add 2 operations a token and squared input, and an inversion, in each of the seven matrices of a block.
    """
    sizes = shape(source.config)
    count, length = samples
    tokens = count * length
    width = 4 * sizes.hidden
    block = source.bytes // max(1, sizes.layers)
    activations = 2 * tokens * width + 34 * length * width
    squares = 4 * 4 * sizes.widest**2 if hessians else 0
    weights = block * 2 if device == "cuda" else source.bytes + min(source.bytes, result)
    flops = 4.0 * source.parameters * tokens * calibrations
    if hessians:
        flops += 7 * sizes.layers * (2.0 * tokens * sizes.widest**2 + 4.0 * sizes.widest**3)
    return Estimate(
        memory=LIBRARIES + weights + activations + squares,
        disk=result,
        seconds=_START + (source.bytes + result) / _BYTES_PER_SECOND + flops / FLOPS[device],
    )


def cost_with_training(
    before: Estimate, training: Training, source: Checkpoint, device: build_support.Device
) -> Estimate:
    """Return the cost of a step that ends with a fine-tune of a checkpoint as large as its source.

    Memory is the greater of both parts. A fine-tune takes the libraries, 16 bytes a parameter and the teacher.
    The 16 bytes are weights, gradients and two moments of Adam in float32. Activations of one batch come on top: 68
    bytes a layer, token and channel (after Korthikanti et al. 2022), and six copies of the logits in float32.
    Disk holds the result, the checkpoint that is healed, and two checkpoints of 12 bytes a parameter.
    Seconds: 8 operations a parameter and token: 6 to train, 2 of the teacher.
    """
    sizes = shape(source.config)
    tokens = training.batch * training.max_length
    vocabulary = int(source.config.get("vocab_size") or 0)
    activations = tokens * (sizes.hidden * sizes.layers * 68 + vocabulary * 4 * 6)
    memory = LIBRARIES + source.parameters * 16 + source.bytes + activations
    count = training.samples or SAMPLES
    trained = count * training.epochs * training.max_length
    return Estimate(
        memory=max(before.memory, memory),
        disk=before.disk + source.bytes + 2 * 12 * source.parameters,
        seconds=before.seconds + 8.0 * source.parameters * trained / FLOPS[device],
    )
