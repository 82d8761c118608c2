"""Check that a model can be split as requested: the divisibility that vLLM 0.32 requires, in its order.

Sources in vllm/: config/model.py verify_with_parallel_config; model_executor/layers/linear.py QKVParallelLinear,
ColumnParallelLinear and RowParallelLinear; vocab_parallel_embedding.py; fused_moe/config.py;
quantization/utils/fp8_utils.py validate_fp8_block_shape.
"""

from collections.abc import Iterator
from typing import Final

from slipstream_operator.core.fit.architecture import Architecture
from slipstream_operator.core.parallelism import Split

VOCABULARY_PADDING: Final = 64
"""vLLM pads the vocabulary to a multiple of this (vocab_parallel_embedding.DEFAULT_VOCAB_PADDING_SIZE)."""
SIZES: Final = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64)
"""Tensor-parallel sizes that can be proposed."""


def problem(model: Architecture, split: Split, *, expert_parallel: bool = False) -> str | None:
    """Return the problem with the split; None if the model can be split."""
    return next(_problems(model, split, expert_parallel=expert_parallel), None)


def tensor_sizes(
    model: Architecture, *, up_to: int, data: int = 1, expert_parallel: bool = False
) -> list[int]:
    """Return the tensor-parallel sizes that the model can be split by."""
    return [
        size
        for size in SIZES
        if size <= up_to
        and problem(model, Split(tensor=size, data=data), expert_parallel=expert_parallel) is None
    ]


def _problems(model: Architecture, split: Split, *, expert_parallel: bool) -> Iterator[str]:
    tensor = split.tensor
    if model.heads % tensor:
        yield f"the model's {model.heads} attention heads can't be divided by {tensor}"
    if model.latent is None:
        few, many = sorted((model.kv_heads, tensor))
        if many % few:
            yield f"the model's {model.kv_heads} KV heads can be neither divided by {tensor} nor copied evenly"
    vocabulary = -(-model.vocabulary // VOCABULARY_PADDING) * VOCABULARY_PADDING
    if vocabulary % tensor:
        yield f"the model's vocabulary, padded to {vocabulary}, can't be divided by {tensor}"
    experts = model.experts
    has_mlp = experts is None or experts.layers < model.layer_count
    if has_mlp and model.intermediate and model.intermediate % tensor:
        yield f"the model's intermediate size of {model.intermediate} can't be divided by {tensor}"
    linear = model.linear
    if linear is not None and (linear.key_heads % tensor or linear.value_heads % tensor):
        yield f"the model's {linear.key_heads} linear attention heads can't be divided by {tensor}"
    ways = tensor * split.data
    if experts is not None and not expert_parallel and experts.size % ways:
        yield f"the experts' intermediate size of {experts.size} can't be divided by {ways}"
    if split.pipeline > model.layer_count:
        yield f"the model's {model.layer_count} layers can't make {split.pipeline} stages"
    if model.block is not None and ways > 1:
        yield from _of_blocks(model, split, model.block, expert_parallel=expert_parallel)


def _of_blocks(
    model: Architecture, split: Split, block: int, *, expert_parallel: bool
) -> Iterator[str]:
    """Yield sizes of which a rank would hold a part of a block of fp8 weights, whose scale can't be split."""
    tensor = split.tensor
    sizes = {}
    experts = model.experts
    if experts is None or experts.layers < model.layer_count:
        sizes["intermediate size"] = (model.intermediate or 0) // tensor
    if experts is not None and not expert_parallel:
        sizes["experts' intermediate size"] = experts.size // (tensor * split.data)
    if model.latent is None:
        sizes["query size"] = model.heads // tensor * model.head_size
        sizes["KV size"] = max(model.kv_heads // tensor, 1) * model.head_size
    for name, size in sizes.items():
        if size % block:
            yield (
                f"divided by {tensor}, the model's {name} is {size} a GPU, not whole blocks of {block}, by which "
                "this fp8 checkpoint is quantized"
            )
