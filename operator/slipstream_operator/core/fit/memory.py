"""Memory of one accelerator: weights, KV cache and the engine itself.

Weights and KV cache follow from the model's configuration exactly enough to refuse a service. The rest is an estimate,
so a service is refused only if it would not fit with the minimum.
"""

import dataclasses
from typing import Final

from slipstream_operator.core.facts import ModelFacts
from slipstream_operator.core.fit import kv, parameters
from slipstream_operator.core.fit.architecture import Architecture
from slipstream_operator.core.fit.config_json import read
from slipstream_operator.core.parallelism import Split

MIB: Final = 2**20
GIB: Final = 2**30

UTILIZATION: Final = 0.92
"""Share of an accelerator's memory that vLLM 0.32 uses (config/cache.py gpu_memory_utilization)."""
LEAST_RESERVE: Final = 256 * MIB
"""Minimum bytes of the CUDA context, a step and the sampler. A refusal adds them to weights and KV cache."""
CONTEXT: Final = 512 * MIB
"""Bytes of CUDA context, libraries and workspaces; estimated."""
COLLECTIVES: Final = 1 * GIB
"""Bytes of NCCL's buffers and vLLM's custom all-reduce, with several accelerators; estimated."""
GRAPHS_PER_LAYER: Final = 16 * MIB
"""Bytes of captured CUDA graphs for each layer, at vLLM's default sizes; estimated."""
STEP_WIDTHS: Final = 4
"""Hidden-size activations per token that are alive at once, besides those of the MLP; estimated."""
SAMPLER_COPIES: Final = 3
"""Copies of the logits in float32 that sampling makes; estimated."""
LARGE: Final = 70 * GIB
"""Bytes of device memory from which vLLM takes larger steps, except on an A100 (engine/arg_utils.py)."""
LARGEST: Final = 160 * GIB
LORA_RANK: Final = 16
"""vLLM's default max_lora_rank."""


@dataclasses.dataclass(frozen=True)
class Demand:
    """Settings that determine the memory of one accelerator. None is unknown or left to vLLM."""

    model: ModelFacts
    draft: ModelFacts | None
    split: Split
    memory: int | None
    """Bytes of one accelerator."""
    utilization: float = UTILIZATION
    expert_parallel: bool = False
    fp8: bool = False
    """Whether weights that are not quantized become fp8 when they are loaded."""
    draft_fp8: bool = False
    """The same for the draft's."""
    kv_bytes: int = 2
    """Bytes of a value of the KV cache."""
    max_length: int | None = None
    sliding_window: int | None = None
    sequences: int | None = None
    batched_tokens: int | None = None
    graphs: bool = True
    mtp: bool = False
    adapter_slots: int = 0
    adapter_rank: int | None = None
    accelerator: str = ""
    kv_memory: int | None = None
    """Bytes of the KV cache, if they are fixed by an engine argument."""
    unchecked: str | None = None
    """Engine argument that changes the memory in a way that is not computed here."""
    single: bool = False
    """Whether a replica can have only one of these accelerators."""
    tensor_field: str = "spec.accelerator.count"
    """Field of the object that the tensor-parallel size follows from, for messages."""

    @property
    def architecture(self) -> Architecture | None:
        """Return the model's architecture, None if unknown."""
        known = read(self.model.config)
        return known.with_window(self.sliding_window) if known else None

    @property
    def step(self) -> tuple[int, int]:
        """Return the sequences and the tokens of a step: as given, or vLLM's defaults for an API server."""
        memory = self.memory or 0
        if memory >= LARGEST:
            sequences, tokens = 1024, 16384
        elif memory >= LARGE and "a100" not in self.accelerator.lower():
            sequences, tokens = 1024, 8192
        else:
            sequences, tokens = 256, 2048
        return self.sequences or sequences, self.batched_tokens or tokens


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Bytes of the fullest accelerator."""

    memory: int
    usable: int
    weights: int
    draft: int
    adapters: int
    activations: int
    """Bytes of activations, the CUDA context and the buffers of collectives."""
    graphs: int
    max_length: int
    request: int | None
    """Bytes of the KV cache that one request of the greatest length holds; None if unknown."""
    kv_memory: int | None = None

    @property
    def loaded(self) -> int:
        """Return the bytes of all weights."""
        return self.weights + self.draft + self.adapters

    @property
    def kv(self) -> int:
        """Return the bytes for the KV cache."""
        if self.kv_memory is not None:
            return self.kv_memory
        return self.usable - self.loaded - self.activations - self.graphs

    @property
    def most_kv(self) -> int:
        """Return the bytes for the KV cache if the engine needed only the minimum."""
        if self.kv_memory is not None:
            return self.kv_memory
        return self.usable - self.loaded - LEAST_RESERVE

    @property
    def concurrency(self) -> float | None:
        """Return the requests of maximum length that fit in the KV cache."""
        return None if self.request is None else max(self.kv, 0) / self.request

    @property
    def tokens(self) -> int | None:
        """Return the tokens that fit in the KV cache, as vLLM counts them."""
        return None if self.concurrency is None else int(self.concurrency * self.max_length)

    @property
    def impossible(self) -> bool:
        """Whether the engine can't start even with the minimum memory."""
        return self.most_kv < max(self.request or 0, 1)

    @property
    def tight(self) -> bool:
        """Whether the engine may fail to start, by the estimate of its memory."""
        return self.kv < max(self.request or 0, 1)


def estimate(demand: Demand) -> Estimate | None:
    """Return the memory of the fullest accelerator; None if too little is known."""
    model = demand.architecture
    if model is None or demand.memory is None or demand.unchecked is not None:
        return None
    weights = weights_bytes(
        model,
        demand.model.bytes,
        demand.split,
        fp8=demand.fp8,
        expert_parallel=demand.expert_parallel,
        mtp=demand.mtp,
    )
    if weights is None:
        return None
    drafter = read(demand.draft.config) if demand.draft else None
    length = demand.max_length or model.max_length
    if length is None:
        return None
    return Estimate(
        memory=demand.memory,
        usable=int(demand.memory * demand.utilization),
        weights=weights,
        draft=_draft_bytes(demand, drafter),
        adapters=_adapter_bytes(demand, model),
        activations=_activations(demand, model),
        graphs=GRAPHS_PER_LAYER * kv.stage_layers(model.layer_count, demand.split.pipeline)[-1]
        if demand.graphs
        else 0,
        max_length=length,
        request=_request(demand, model, drafter, length),
        kv_memory=demand.kv_memory,
    )


def longest(demand: Demand) -> int | None:
    """Return the maximum length of a request that fits; None if unknown or if none fits."""
    found = estimate(demand)
    model = demand.architecture
    if found is None or model is None or found.request is None or found.kv <= 0:
        return None
    drafter = read(demand.draft.config) if demand.draft else None
    low, high = 0, found.max_length
    while low < high:
        middle = (low + high + 1) // 2
        needed = _request(demand, model, drafter, middle)
        if needed is not None and needed <= found.kv:
            low = middle
        else:
            high = middle - 1
    return low or None


def weights_bytes(
    model: Architecture,
    size: int | None,
    split: Split,
    *,
    fp8: bool = False,
    expert_parallel: bool = False,
    mtp: bool = False,
) -> int | None:
    """Return the weights on the fullest accelerator; None if unknown.

    vLLM loads float32 as 16 bits. The embedding and the output matrix keep 16 bits in quantized models.
    """
    counted = parameters.count(model)
    outer = 2 * (counted.embedding + counted.head)
    if size is None and not model.counted:
        return None
    if size is not None:
        inner = max(size * (1 if model.quantized else 2 / model.stored_bytes) - outer, 0)
    elif model.quantized and model.bits is None:
        return None
    else:
        layers = counted.total - counted.embedding - counted.head
        inner = layers * (model.bits or 16) / 8
    if size is not None and not mtp:
        inner *= model.layer_count / (model.layer_count + model.prediction_layers)
    if fp8 and not model.quantized:
        inner /= 2
    layers = max(counted.dense + counted.experts + counted.replicated, 1)
    tensor, ways = split.tensor, split.tensor * split.data
    copies = max(1 / model.kv_heads - 1 / tensor, 0) if model.latent is None else 0
    share = (
        counted.dense / tensor
        + counted.experts / ways
        + counted.replicated
        + counted.key_value * copies
    ) / layers
    per_layer = inner * share / model.layer_count
    stages = [count * per_layer for count in kv.stage_sizes(model.layer_count, split.pipeline)]
    embedding, head = 2 * counted.embedding / tensor, 2 * counted.head / tensor
    stages[0] += embedding
    # With several stages, the last one holds a copy of an embedding that is the output matrix, too.
    stages[-1] += embedding if model.tied and len(stages) > 1 else head
    return int(max(stages))


def _draft_bytes(demand: Demand, drafter: Architecture | None) -> int:
    """Return the draft model's weights: split as the model's, in its own precision."""
    if demand.draft is None:
        return 0
    split = Split(tensor=demand.split.tensor)
    if drafter is None:
        return (demand.draft.bytes or 0) // split.tensor
    return weights_bytes(drafter, demand.draft.bytes, split, fp8=demand.draft_fp8) or 0


def _adapter_bytes(demand: Demand, model: Architecture) -> int:
    """Return the slots of LoRA adapters: A is copied to each accelerator, B is split as its layer."""
    if not demand.adapter_slots:
        return 0
    hidden, inner = model.hidden, model.intermediate or 0
    queries, keys = model.heads * model.head_size, model.kv_heads * model.head_size
    down = 3 * hidden + queries + 2 * hidden + inner
    up = (queries + 2 * keys + 2 * inner) / demand.split.tensor + 2 * hidden
    layers = kv.stage_layers(model.layer_count, demand.split.pipeline)[-1]
    rank = demand.adapter_rank or LORA_RANK
    return int(demand.adapter_slots * layers * rank * (down + up) * 2)


def _activations(demand: Demand, model: Architecture) -> int:
    sequences, tokens = demand.step
    tensor = demand.split.tensor
    width = STEP_WIDTHS * model.hidden
    inner = max(model.intermediate or 0, model.experts.size if model.experts else 0)
    step = tokens * (width + 3 * inner / tensor) * 2
    logits = sequences * model.vocabulary * 4 * SAMPLER_COPIES
    collectives = COLLECTIVES if demand.split.total > 1 else 0
    return int(CONTEXT + collectives + max(step, logits))


def _request(
    demand: Demand, model: Architecture, drafter: Architecture | None, length: int
) -> int | None:
    _, tokens = demand.step
    models = [(model, demand.split.pipeline)]
    if drafter is not None:
        models.append((drafter, 1))
    return kv.request_bytes(
        models,
        tensor=demand.split.tensor,
        value_bytes=demand.kv_bytes,
        length=length,
        # With async scheduling one more step than stages is in flight (VllmConfig.max_concurrent_batches).
        in_flight=tokens * (demand.split.pipeline + 1),
    )
