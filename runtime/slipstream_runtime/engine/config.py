"""EngineConfig: what one engine pod is told to run, as the operator writes it into the revision's ConfigMap.

Validated once, at the border; inside the engine everything is a frozen value.
"""

from pathlib import Path
from typing import Annotated, Literal

import pydantic

from slipstream_runtime.host import config_file
from slipstream_runtime.host.part import Part, Positive


class Model(Part):
    """Which weights, and the name that clients ask for."""

    uri: str
    name: str
    max_length: Positive | None = None
    trust_remote_code: bool = False


class Quantization(Part):
    """`auto` reads the checkpoint; any other method must be the checkpoint's own or one that quantises at load."""

    method: Literal["none", "auto", "fp8", "int8", "int4", "awq", "gptq"] = "auto"
    kv_cache: Literal["auto", "fp8"] = "auto"


class Speculation(Part):
    """Exactly one of a draft model and a draftless method."""

    draft: str | None = None
    method: Literal["ngram"] | None = None
    tokens: Positive

    @pydantic.model_validator(mode="after")
    def _exactly_one(self) -> "Speculation":
        if (self.draft is None) == (self.method is None):
            raise ValueError("exactly one of draft and method is needed")
        return self


class Cache(Part):
    """`kv_bytes` is the KV cache's size in bytes; None on GPUs, where vLLM takes what is left of the device."""

    prefix: bool = True
    compile: bool = True
    kv_bytes: Positive | None = None


class Batching(Part):
    """Limits of one engine step; None leaves vLLM's own default."""

    max_sequences: Positive | None = None
    max_batched_tokens: Positive | None = None
    chunked_prefill: bool = True
    policy: Literal["fcfs", "priority"] = "fcfs"


class EngineConfig(Part):
    """Everything that decides how a vLLM engine of one revision runs."""

    model: Model
    device: Literal["cuda", "cpu"] = "cuda"
    cores: Positive | None = None
    """CPU cores of one engine; only with device `cpu`."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    tensor_parallel: Positive = 1
    quantization: Quantization = Quantization()
    speculation: Speculation | None = None
    cache: Cache = Cache()
    batching: Batching = Batching()
    drain_seconds: Annotated[int, pydantic.Field(ge=0)]

    @property
    def uris(self) -> list[str]:
        """All weights that the engine needs."""
        draft = self.speculation.draft if self.speculation else None
        return [self.model.uri] if draft is None else [self.model.uri, draft]


def load(path: Path) -> EngineConfig:
    """Read and validate the file; UnsuitableError names the file and every key that is wrong."""
    return config_file.load(path, EngineConfig)
