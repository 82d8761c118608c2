"""Caches of a service: prefixes, models, compiled kernels, KV cache blocks and responses."""

from typing import Annotated

import pydantic
from pydantic import Field

from slipstream_operator.api.base import ApiModel, ByteSize, Duration, rule, rules


class CacheClaim(ApiModel):
    """PersistentVolumeClaim in the same namespace. It must be ReadWriteMany if replicas run on several nodes."""

    name: Annotated[str, Field(min_length=1, max_length=253, description="Name of the claim.")]


class CacheHostPath(ApiModel):
    """Directory of the node, created if it is missing. The pod security level of the namespace must allow hostPath."""

    path: Annotated[
        str,
        Field(
            min_length=2,
            max_length=512,
            description="Absolute path that user 65532 can write to.",
            json_schema_extra=rules(
                rule(
                    "self.startsWith('/') && !self.contains('/../') && !self.endsWith('/..')",
                    message_expression="'\"' + self + '\" is not an absolute path. Use a path such as "
                    "/var/cache/models, without .. in it.'",
                )
            ),
        ),
    ]


class ModelCacheSpec(ApiModel):
    """Volume that keeps downloaded models and compiled kernels when pods are deleted."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.claim) != has(self.hostPath)",
                message="needs exactly one of claim and hostPath. Set one and leave out the other.",
            )
        )
    )
    claim: CacheClaim | None = Field(
        default=None,
        description="PersistentVolumeClaim. A Job downloads the model to it before engines start.",
    )
    host_path: CacheHostPath | None = Field(default=None, description="Directory of the node.")


class ResponsesSpec(ApiModel):
    """Responses that the router reuses for identical requests of the same tenant."""

    ttl: Duration = Field(description="Time for which a response is reused.")
    size: ByteSize = Field(
        default="64Mi",
        description="Memory for responses in each router pod, at most what its memory limit leaves: 160Mi by default. "
        "All services of a namespace share that. The oldest responses are evicted first. Default: 64Mi.",
    )


class OffloadSpec(ApiModel):
    """Memory for KV cache blocks that are evicted from the accelerator. Later requests load them back."""

    cpu: ByteSize = Field(
        description="Host memory of one replica for offloaded blocks, such as 20Gi. It is added to the memory "
        "request and limit of the engine unless spec.resources sets them.",
    )
    disk: ByteSize | None = Field(
        default=None,
        description="Disk space for blocks that are evicted from that memory, such as 100Gi. It is an emptyDir of "
        "this size. The oldest blocks are deleted first. Default: none.",
    )


class CacheSpec(ApiModel):
    """Caches of a service."""

    prefix: bool = Field(
        default=True,
        description="Whether to reuse the KV cache for the common prefix of prompts. Default: true where the "
        "model supports it.",
    )
    compile: bool | None = Field(
        default=None,
        description="Whether to compile the model with torch.compile. Default: true on GPUs, false on cpu. With "
        "false, GPUs still use CUDA graphs for decode steps. With runtime: onnx it means TensorRT 10, "
        "which runs only on GPUs and needs a template.image that has it; the default is false.",
    )
    model: ModelCacheSpec | None = Field(
        default=None,
        description="Volume that keeps downloads and compiled kernels when pods are deleted. Default: none; each "
        "pod downloads the model.",
    )
    prefetch: bool = Field(
        default=False,
        description="Whether nodes pull the images of oci:// sources and of the engine before engine pods are "
        "scheduled on accelerators. A Job runs one pod per possible replica, at most 16, without "
        "accelerators. Engines don't wait for it. Default: false.",
    )
    offload: OffloadSpec | None = Field(
        default=None,
        description="Offload of KV cache blocks to host memory and disk, on GPUs. Default: none; evicted blocks "
        "are recomputed.",
    )
    responses: ResponsesSpec | None = Field(
        default=None,
        description="Cache of whole responses, for requests at temperature 0 and requests that ask for it. "
        "Default: none.",
    )
