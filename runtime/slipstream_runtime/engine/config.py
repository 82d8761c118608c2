"""Configuration of one engine pod, which the operator writes into the revision's ConfigMap.

It is validated once, when it is read; all values are frozen.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

import pydantic

from slipstream_runtime import config_file, contract
from slipstream_runtime.engine.output import Output
from slipstream_runtime.host.limits import Limits
from slipstream_runtime.part import Part, Positive
from slipstream_runtime.web.tenants import Scope

AUTO: Final = "auto"
NONE: Final = "none"

Argument = bool | int | float | str


class ConfigMapKey(Part):
    """Key of a ConfigMap, for messages."""

    name: str
    key: str


class Model(Part):
    """Weights to load, and the model name for clients."""

    uri: str
    name: str
    max_length: Positive | None = None
    trust_remote_code: bool = False
    tool_parser: str = AUTO
    """Parser of tool calls: `auto` by the model's family, `none`, or a name of vLLM's."""
    reasoning_parser: str = AUTO
    """Parser of reasoning, in the same way."""
    chat_template: str | None = None
    """Jinja text, or the name of a file of the model; None is the model's own template."""
    chat_template_from: ConfigMapKey | None = None
    """Source of the template in `contract.CHAT_TEMPLATE_FILE`."""


class Quantization(Part):
    """`auto` reads the checkpoint; any other method must be the checkpoint's own or one that quantizes at load."""

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
    """Caches of the engine.

    `kv_bytes` is the size of the KV cache in bytes; None on GPUs, where vLLM takes the remaining memory of the device.
    `offload_bytes` is the host memory for evicted blocks, None for none. `offload_disk_bytes` is the disk behind it.
    """

    prefix: bool = True
    compile: bool = True
    kv_bytes: Positive | None = None
    gpu_memory_utilization: Annotated[float, pydantic.Field(gt=0, le=1)] | None = None
    """Share of a GPU's memory that the engine may take, where several share one; None is vLLM's default."""
    offload_bytes: Positive | None = None
    offload_disk_bytes: Positive | None = None


class Adapters(Part):
    """LoRA adapters: how many run at once, up to which rank, and the file that lists them while the engine runs.

    A `rank` of None stands for the highest rank of the adapters that are listed at the start.
    """

    slots: Positive
    rank: Positive | None = None
    file: Path = Path(contract.ADAPTERS_DIRECTORY, contract.ADAPTERS_FILE)


class Attention(Part):
    """Attention; None leaves the model's own window, and the backend to vLLM."""

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
    """`streamed` reads safetensors with the Run:ai model streamer, several parts of a file at once."""
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
    """More arguments of vLLM by their long names; they override the defaults."""
    linger_seconds: Annotated[int, pydantic.Field(ge=0)] = 0
    """Seconds after SIGTERM in which new requests are still served; their connections close with the answer."""
    drain_seconds: Annotated[int, pydantic.Field(ge=0)]
    """Seconds after that in which running requests may finish."""
    stall_seconds: Positive = 300
    """Seconds without progress after which an engine with running requests is restarted."""
    limits: Limits = Limits()
    output: Output | None = None
    api_keys: Path | None = None
    """Folder of the API keys; None if clients need no key."""
    prefix_scope: Scope | None = None
    """Requests that share cached prefixes, if clients reach the engine directly; None behind a router."""
    certificate: Path | None = None
    """Folder of the TLS certificate of the API's port; None for plain HTTP."""
    open_metrics: bool = False
    """Whether the API's port shows the metrics, too, for endpoint pickers."""
    reaches_store: bool = True
    """Whether later requests reach the replica that stores a response."""

    @property
    def single(self) -> bool:
        """Whether a single process runs the model."""
        return self.tensor_parallel * self.pipeline_parallel == 1

    @property
    def uris(self) -> list[str]:
        """URIs of all weights that the engine needs."""
        draft = self.speculation.draft if self.speculation else None
        return [self.model.uri] if draft is None else [self.model.uri, draft]


def load(path: Path) -> EngineConfig:
    """Read and validate the file; UnsuitableError names the file and every wrong key."""
    return config_file.load(path, EngineConfig)
