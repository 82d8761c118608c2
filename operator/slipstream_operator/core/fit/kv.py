"""Size of the KV cache in vLLM 0.32: bytes of one request of a given length on one accelerator.

Sources in vllm/v1/: kv_cache_interface.py (page sizes, blocks of a request) and core/kv_cache_utils.py (groups of
layers that share blocks).
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Final

from slipstream_operator.core.fit.architecture import Architecture, Layer

BLOCK: Final = 16
"""Tokens of a block: vLLM's default on CUDA."""
PADDED_GROUPS: Final = 1.5
"""vLLM pads groups of layers to the largest if it has less than this times the layers of the smallest."""
STATES: Final = 2
"""States of a request in each linear layer, in vLLM's `align` mode, the default with a prefix cache."""


@dataclasses.dataclass(frozen=True)
class _Spec:
    """Cache of one layer on one accelerator."""

    layer: Layer
    bytes: int
    """Per token; of a linear layer per state."""

    def tokens(self, length: int, in_flight: int) -> int:
        """Return the tokens that a request of this length keeps."""
        window = self.layer.window
        if self.layer.kind == "full" or window is None:
            return length
        if self.layer.kind == "sliding":
            return min(window - 1 + in_flight, length)
        return min(window + in_flight, length)

    def blocks(self, length: int, in_flight: int, size: int) -> int:
        """Return the blocks of this size, in tokens, that a request of this length keeps."""
        more = 1 if self.layer.kind == "sliding" else 0  # a window may begin inside a block
        return -(-self.tokens(length, in_flight) // size) + more


def request_bytes(
    models: Sequence[tuple[Architecture, int]],
    *,
    tensor: int,
    value_bytes: int,
    length: int,
    in_flight: int,
) -> int | None:
    """Return the bytes of one request of this length on one accelerator; None if a layer's cache is unknown.

    `models` are the target and its draft, each with the number of stages that its layers are split into. `in_flight` is
    the number of tokens in unfinished steps: their blocks outside a window are not free yet.
    """
    specs: list[_Spec] = []
    for model, stages in models:
        if model.layers is None:
            return None
        for layer in model.layers[: stage_layers(len(model.layers), stages)[-1]]:
            specs.append(_spec(model, layer, tensor=tensor, value_bytes=value_bytes))
    if not specs:
        return None
    kinds = {spec.layer.kind for spec in specs}
    windows = {spec.layer.window for spec in specs}
    if kinds == {"full"} or (len(kinds) == len(windows) == 1 and "linear" not in kinds):
        return sum(spec.bytes * BLOCK * spec.blocks(length, in_flight, BLOCK) for spec in specs)
    return _grouped(specs, length=length, in_flight=in_flight)


def stage_layers(layers: int, stages: int) -> list[int]:
    """Return the layers of each pipeline stage, fewest first."""
    return sorted(stage_sizes(layers, stages))


def stage_sizes(layers: int, stages: int) -> list[int]:
    """Return the layers of each pipeline stage, in their order: vLLM's get_pp_indices."""
    sizes = [layers // stages] * stages
    for index in range(2, layers % stages + 2):
        sizes[-index] += 1
    return sizes


def _spec(model: Architecture, layer: Layer, *, tensor: int, value_bytes: int) -> _Spec:
    if layer.kind == "linear":
        return _Spec(layer, _state_bytes(model, tensor=tensor))
    if layer.latent is not None:
        return _Spec(layer, layer.latent * value_bytes + layer.indexer)
    heads = max(layer.kv_heads // tensor, 1)
    return _Spec(layer, 2 * heads * layer.head_size * value_bytes)


def _state_bytes(model: Architecture, *, tensor: int) -> int:
    """Return the state of a gated delta net layer: vllm/model_executor/layers/mamba/mamba_utils.py."""
    part = model.linear
    assert part is not None
    width = 2 * part.key_heads * part.key_size + part.value_heads * part.value_size
    convolution = (part.kernel - 1) * width // tensor * 2
    recurrent = part.value_heads // tensor * part.value_size * part.key_size * part.state_bytes
    return convolution + recurrent


def _grouped(specs: Sequence[_Spec], *, length: int, in_flight: int) -> int:
    """Return the bytes of a request whose layers are of several kinds.

    All groups use blocks of one size, so a group with fewer layers or a smaller page wastes the rest of a block.
    """
    attention = [spec for spec in specs if spec.layer.kind != "linear"]
    states = [spec for spec in specs if spec.layer.kind == "linear"]
    block = BLOCK
    if states:
        widest = max((spec.bytes for spec in attention), default=1)
        # vLLM lengthens the blocks of attention until a page of theirs holds a state.
        block = -(-max(spec.bytes for spec in states) // (widest * BLOCK)) * BLOCK
    page = max([spec.bytes * block for spec in attention] + [spec.bytes for spec in states])
    buckets = Counter(specs)
    least, most = min(buckets.values()), max(buckets.values())
    size = most if most < least * PADDED_GROUPS else least
    blocks = 0
    for spec, count in buckets.items():
        if spec.layer.kind == "linear":
            needed = STATES
        else:
            own = spec.bytes * block
            tokens = page // spec.bytes if page % own == 0 else block
            needed = spec.blocks(length, in_flight, tokens)
        blocks += -(-count // size) * needed
    return blocks * page * size
