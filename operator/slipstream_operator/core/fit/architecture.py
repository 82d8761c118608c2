"""Architecture of a language model: the sizes that memory and splits are computed from."""

import dataclasses
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["full", "sliding", "chunked", "linear"]


@dataclasses.dataclass(frozen=True)
class Layer:
    """KV cache of one layer."""

    kind: Kind
    kv_heads: int
    head_size: int
    window: int | None = None
    """Tokens that a sliding or chunked layer looks back."""
    latent: int | None = None
    """Values per token of a layer with latent attention, for all heads together."""
    indexer: int = 0
    """Bytes per token of a sparse layer's indexer."""


@dataclasses.dataclass(frozen=True)
class Experts:
    """Experts of the layers that have them."""

    count: int
    size: int
    """Intermediate size of one."""
    shared: int
    """Intermediate size of the shared ones together; they are replicated by none and split as an MLP."""
    layers: int


@dataclasses.dataclass(frozen=True)
class LatentAttention:
    """Ranks and head sizes of multi-head latent attention."""

    kv_rank: int
    q_rank: int | None
    rope: int
    nope: int
    value: int


@dataclasses.dataclass(frozen=True)
class LinearAttention:
    """Sizes of gated delta net layers, which keep a state of fixed size."""

    key_heads: int
    value_heads: int
    key_size: int
    value_size: int
    kernel: int
    state_bytes: int
    """Bytes of one value of the recurrent state."""


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Sizes that a config.json states."""

    model_type: str
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    layers: tuple[Layer, ...] | None
    """None if the cache of some layer is of a kind that is not known here."""
    layer_count: int
    intermediate: int | None
    gated: bool
    vocabulary: int
    tied: bool
    experts: Experts | None
    latent: LatentAttention | None
    linear: LinearAttention | None
    max_length: int | None
    stored_bytes: int
    """Bytes of one weight that is not quantized, as stored."""
    quantization: str | None
    """Method of a checkpoint that is quantized already."""
    bits: float | None
    """Bits of a quantized weight, with its scales; None if unknown or not quantized."""
    prediction_layers: int
    """Layers of multi-token prediction in the checkpoint, which vLLM loads only for method mtp."""
    block: int | None
    """Size of the blocks that an fp8 checkpoint has scales for; each rank must hold whole ones."""
    counted: bool
    """Whether the weights follow from the sizes here: not where some layers are of kinds not known here."""

    @property
    def quantized(self) -> bool:
        """Whether the checkpoint's weights are quantized already."""
        return self.quantization is not None

    def with_window(self, window: int | None) -> "Architecture":
        """Return the architecture with spec.attention.slidingWindow in layers that have a window."""
        if window is None or self.layers is None:
            return self
        layers = tuple(
            dataclasses.replace(layer, window=window) if layer.kind == "sliding" else layer
            for layer in self.layers
        )
        return dataclasses.replace(self, layers=layers)
