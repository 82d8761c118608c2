"""EngineConfig: what one engine pod is told to run, as the operator writes it into the revision's ConfigMap.

Validated once, at the border; inside the engine everything is a frozen value.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import pydantic

from slipstream_runtime import config_file, contract
from slipstream_runtime.engine.output import Output
from slipstream_runtime.host.limits import Limits
from slipstream_runtime.part import Part, Positive

Argument = bool | int | float | str


class Model(Part):
    """Weights to load, and the name that clients ask for."""

    uri: str
    name: str
    max_length: Positive | None = None
    trust_remote_code: bool = False


class Quantization(Part):
    """`auto` reads the checkpoint; any other method must be the checkpoint's own or one that quantises at load."""

    method: Literal["none", "auto", "fp8", "int8", "int4", "awq", "gptq", "nvfp4", "mxfp4"] = "auto"
    kv_cache: Literal["auto", "fp8"] = "auto"


class Speculation(Part):
    """A draft model, a method that needs none, or eagle3 with its head as draft.

    `draft_quantization` is `auto` (as the draft's checkpoint is) or fp8, which also quantizes it at load.
    """

    draft: str | None = None
    method: Literal["ngram", "suffix", "eagle3", "mtp"] | None = None
    draft_quantization: Literal["auto", "fp8"] = "auto"
    tokens: Positive

    @pydantic.model_validator(mode="after")
    def _draft_where_one_is_needed(self) -> "Speculation":
        if (self.draft is not None) != (self.method in (None, "eagle3")):
            raise ValueError("a draft belongs to method eagle3, and to no method")
        return self


class Cache(Part):
    """`kv_bytes` is the KV cache's size in bytes; None on GPUs, where vLLM takes what is left of the device.

    `offload_bytes` is the size of the host memory that evicted blocks go to; None keeps none. `offload_disk_bytes` is
    that of the disk behind it.
    """

    prefix: bool = True
    compile: bool = True
    kv_bytes: Positive | None = None
    gpu_memory_utilization: Annotated[float, pydantic.Field(gt=0, le=1)] | None = None
    """Share of a GPU's memory that the engine may take, where several share one; None is vLLM's default."""
    offload_bytes: Positive | None = None
    offload_disk_bytes: Positive | None = None


class Adapters(Part):
    """Room for LoRA adapters; which ones is in a file that changes while the engine runs.

    `rank` is the highest that fits; None is the highest of those that are there at the start.
    """

    slots: Positive
    rank: Positive | None = None
    file: Path = Path(contract.ADAPTERS_DIRECTORY, contract.ADAPTERS_FILE)


class Attention(Part):
    """None is the model's own window, and vLLM's choice of backend."""

    sliding_window: Positive | None = None
    backend: str | None = None


class Batching(Part):
    """Limits of one engine step; None leaves vLLM's own default."""

    max_sequences: Positive | None = None
    max_batched_tokens: Positive | None = None
    chunked_prefill: bool = True
    policy: Literal["fcfs", "priority"] = "fcfs"


class EngineConfig(Part):
    """Everything that decides how a vLLM engine of one revision runs."""

    model: Model
    load: Literal["auto", "streamed"] = "auto"
    """`streamed` reads safetensors by the Run:ai model streamer, several parts of a file at once."""
    device: Literal["cuda", "cpu"] = "cuda"
    cores: Positive | None = None
    """CPU cores of one engine; only with device `cpu`."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    tensor_parallel: Positive = 1
    pipeline_parallel: Positive = 1
    data_parallel: Positive = 1
    nodes: Positive = 1
    """Pods of a replica, each with an equal share of the ranks."""
    quantization: Quantization = Quantization()
    speculation: Speculation | None = None
    cache: Cache = Cache()
    batching: Batching = Batching()
    attention: Attention = Attention()
    adapters: Adapters | None = None
    engine_args: Mapping[str, Argument | list[Argument]] = {}
    """More arguments of vLLM by their long names; they win over the defaults of what they set."""
    linger_seconds: Annotated[int, pydantic.Field(ge=0)] = 0
    """After SIGTERM: how long what still comes is served, its connection closed with the answer."""
    drain_seconds: Annotated[int, pydantic.Field(ge=0)]
    """After that: how long running requests may take to finish."""
    stall_seconds: Positive = 300
    """An engine that holds requests and shows no sign of work for so long is restarted."""
    limits: Limits = Limits()
    output: Output | None = None
    api_keys: Path | None = None
    """Folder of the keys that clients need; None asks for none."""
    open_metrics: bool = False
    """Show the metrics on the API's port, too, where endpoint pickers look for them."""

    @property
    def single(self) -> bool:
        """Whether one process computes."""
        return self.tensor_parallel * self.pipeline_parallel == 1

    @property
    def uris(self) -> list[str]:
        """All weights that the engine needs."""
        draft = self.speculation.draft if self.speculation else None
        return [self.model.uri] if draft is None else [self.model.uri, draft]


def load(path: Path) -> EngineConfig:
    """Read and validate the file; UnsuitableError names the file and every key that is wrong."""
    return config_file.load(path, EngineConfig)
