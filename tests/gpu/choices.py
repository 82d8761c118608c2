"""Kernels that vLLM takes for a configuration: its own model classes, built without memory, are asked.

A model is built on PyTorch's meta device, in process groups of the real size without peers, so each layer makes the
choice that it makes in a pod: of attention backends, linear kernels and kernels for mixtures of experts.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

_KERNELS = "vllm.model_executor.kernels.linear"
_EXPERTS = "vllm.model_executor.layers.fused_moe.experts"


@dataclasses.dataclass(frozen=True)
class Choice:
    """Names of the kernels of one model, without those of embeddings."""

    attention: tuple[str, ...]
    linear: tuple[str, ...]
    experts: tuple[str, ...]


def of(config: Any) -> Choice:
    """Return the choice for a VllmConfig."""
    from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase
    from vllm.model_executor.layers.linear import LinearBase

    attention: set[str] = set()
    linear: set[str] = set()
    experts: set[str] = set()
    for layer in _build(config).modules():
        method = getattr(layer, "quant_method", None)
        if isinstance(layer, AttentionLayerBase):
            attention |= _attention(layer)
        elif isinstance(layer, LinearBase):
            linear |= _kernels(layer, method)
        elif method is not None and hasattr(method, "moe"):
            experts |= _experts(method)
    return Choice(*(tuple(sorted(found)) for found in (attention, linear, experts)))


def draft(config: Any) -> Any:
    """Return the VllmConfig that vLLM makes for a draft model; None without one."""
    from vllm.config.utils import replace

    speculation = config.speculative_config
    if speculation is None or speculation.method != "draft_model":
        return None
    return replace(
        config,
        quant_config=None,
        parallel_config=replace(
            speculation.draft_parallel_config, rank=config.parallel_config.rank
        ),
        model_config=speculation.draft_model_config,
    )


def _attention(layer: Any) -> set[str]:
    names = {_versioned(layer.get_attn_backend().get_name(), getattr(layer, "impl", None))}
    prefill = getattr(layer, "prefill_backend", None)
    if prefill is not None:
        names.add(f"prefill {_versioned(type(prefill).get_name(), prefill)}")
    return names


def _versioned(name: str, computes: Any) -> str:
    """Return a backend's name with the generation of FlashAttention that it calls, if any."""
    version = getattr(computes, "vllm_flash_attn_version", None)
    return name if version is None else f"{name} (FA{version})"


def _kernels(layer: Any, method: Any) -> set[str]:
    """Names of the kernel objects that a linear layer holds, or of its method where PyTorch does the work."""
    found = {*_held(method), *_held(getattr(layer, "scheme", None))}
    return found or {type(getattr(layer, "scheme", None) or method).__name__}


def _held(owner: Any, depth: int = 3) -> Iterator[str]:
    if owner is None or depth == 0 or not hasattr(owner, "__dict__"):
        return
    for value in vars(owner).values():
        kind = type(value)
        if kind.__module__.startswith(_KERNELS) and kind.__name__.endswith("Kernel"):
            parts = set(_held(value, depth - 1))
            yield from parts or {kind.__name__}


def _experts(method: Any) -> set[str]:
    chosen = getattr(method, "experts_cls", None)
    return {chosen.__name__ if chosen is not None else type(method).__name__}


def _build(config: Any) -> Any:
    from vllm.model_executor.model_loader.utils import initialize_model
    from vllm.utils.torch_utils import set_default_torch_dtype

    config.compilation_config.static_forward_context.clear()
    with _groups(config), set_default_torch_dtype(config.model_config.dtype), _on_meta():
        return initialize_model(config)


def _on_meta() -> Any:
    """Return a mode in which tensors of the GPU, or of no device that is named, have no memory."""
    import torch
    from torch.overrides import TorchFunctionMode
    from torch.utils._device import _device_constructors

    constructors = _device_constructors()

    class Mode(TorchFunctionMode):
        def __torch_function__(
            self, function: Any, _: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            kwargs = dict(kwargs or {})
            device = kwargs.get("device")
            on_gpu = device is not None and torch.device(device).type == "cuda"
            if on_gpu or (device is None and function in constructors):
                kwargs["device"] = "meta"
            return function(*args, **kwargs)

    return Mode()


@contextlib.contextmanager
def _groups(config: Any) -> Iterator[None]:
    """Process groups of the configuration's sizes, of which only rank 0 exists."""
    import torch.distributed as dist
    from torch.testing._internal.distributed.fake_pg import FakeStore
    from vllm.config import set_current_vllm_config
    from vllm.distributed import parallel_state

    parallel = config.parallel_config
    size = parallel.world_size * parallel.data_parallel_size
    original = dist.new_group, parallel_state.init_model_parallel_group

    def new_group(ranks: Any = None, **_: Any) -> Any:
        return original[0](ranks, backend="fake")

    def init_group(ranks: Any, local_rank: int, backend: str, **options: Any) -> Any:
        options |= {"use_message_queue_broadcaster": False, "use_device_communicator": False}
        return original[1](ranks, local_rank, backend, **options)

    dist.new_group, parallel_state.init_model_parallel_group = new_group, init_group
    try:
        dist.init_process_group("fake", rank=0, world_size=size, store=FakeStore())
        parallel_state._WORLD = parallel_state.init_world_group(list(range(size)), 0, "fake")
        with set_current_vllm_config(config):
            parallel_state.initialize_model_parallel(
                parallel.tensor_parallel_size, parallel.pipeline_parallel_size, backend="fake"
            )
            yield
    finally:
        parallel_state.destroy_model_parallel()
        parallel_state._WORLD = None
        dist.destroy_process_group()
        dist.new_group, parallel_state.init_model_parallel_group = original
