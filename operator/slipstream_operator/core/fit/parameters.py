"""Numbers of weights by part of a model, because parts are split over accelerators differently."""

import dataclasses

from slipstream_operator.core.fit.architecture import Architecture


@dataclasses.dataclass(frozen=True)
class Parameters:
    """Numbers of weights of a whole model."""

    embedding: int
    """One matrix of vocabulary x hidden size."""
    head: int
    """Output matrix; 0 if it is tied to the embedding."""
    dense: int
    """Attention, MLPs and shared experts: split by tensor parallelism."""
    experts: int
    """Split by tensor x data parallelism."""
    replicated: int
    """Weights on each rank: routers and latent down-projections. Copied KV heads are counted separately."""
    key_value: int
    """K and V projections, a part of `dense`, which ranks beyond the number of KV heads copy."""

    @property
    def total(self) -> int:
        """All weights."""
        return self.embedding + self.head + self.dense + self.experts + self.replicated


def count(model: Architecture) -> Parameters:
    """Count the weights without norms and biases, which are below 0.1%."""
    embedding = model.vocabulary * model.hidden
    attention, copied, key_value = _attention(model)
    matrices = 3 if model.gated else 2
    experts = model.experts
    sparse = experts.layers if experts else 0
    dense_layers = model.layer_count - sparse
    mlp = dense_layers * matrices * model.hidden * (model.intermediate or 0)
    routed = routers = 0
    if experts is not None:
        routed = sparse * experts.count * matrices * model.hidden * experts.size
        routers = sparse * model.hidden * experts.count
        mlp += sparse * matrices * model.hidden * experts.shared
    return Parameters(
        embedding=embedding,
        head=0 if model.tied else embedding,
        dense=attention + mlp,
        experts=routed,
        replicated=routers + copied,
        key_value=key_value,
    )


def _attention(model: Architecture) -> tuple[int, int, int]:
    """Return the weights that are split, those that each rank holds, and the K and V part of the first."""
    hidden, layers = model.hidden, model.layer_count
    if model.latent is not None:
        mla = model.latent
        queries = model.heads * (mla.nope + mla.rope)
        split = (
            (mla.q_rank or hidden) * queries
            + mla.kv_rank * model.heads * (mla.nope + mla.value)
            + model.heads * mla.value * hidden
        )
        down = hidden * ((mla.q_rank or 0) + mla.kv_rank + mla.rope)
        return layers * split, layers * down, 0
    linear_layers = sum(layer.kind == "linear" for layer in model.layers or ())
    full = layers - linear_layers
    query = hidden * model.heads * model.head_size
    # Models such as Qwen3-Next gate the output of attention, which doubles the queries.
    queries = 3 * query if model.linear is not None else 2 * query
    key_value = 2 * hidden * model.kv_heads * model.head_size
    total = full * (queries + key_value)
    if model.linear is not None:
        part = model.linear
        keys, values = part.key_heads * part.key_size, part.value_heads * part.value_size
        each = hidden * (2 * keys + 2 * values + 2 * part.value_heads) + values * hidden
        total += linear_layers * each
    return total, 0, full * key_value
