"""Caches of a service: of prompts, models, compiled kernels, KV blocks and whole answers."""

from typing import Annotated

import pydantic
from pydantic import Field

from slipstream_operator.api.base import Duration, Model, Quantity, rule, rules


class CacheClaim(Model):
    """A PersistentVolumeClaim of the namespace; ReadWriteMany where replicas run on several nodes."""

    name: Annotated[str, Field(min_length=1, max_length=253, description="Name of the claim.")]


class CacheHostPath(Model):
    """A folder of the node, made if it is not there; only where the namespace's pod security admits hostPath."""

    path: Annotated[
        str,
        Field(
            min_length=2,
            max_length=512,
            description="Absolute path, which user 65532 can write to.",
            json_schema_extra=rules(
                rule(
                    "self.startsWith('/') && !self.contains('/../') && !self.endsWith('/..')",
                    message_expression="'\"' + self + '\" is not an absolute path without ..'",
                )
            ),
        ),
    ]


class ModelCacheSpec(Model):
    """Place where downloaded models and compiled kernels outlive a pod."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.claim) != has(self.hostPath)",
                message="needs exactly one of claim and hostPath: give one, leave out the other",
            )
        )
    )
    claim: CacheClaim | None = Field(
        default=None,
        description="In a PersistentVolumeClaim. A Job downloads into it before any engine starts.",
    )
    host_path: CacheHostPath | None = Field(default=None, description="In a folder of the node.")


class ResponsesSpec(Model):
    """Answers that the router gives again to the same request of the same tenant."""

    ttl: Duration = Field(description="How long an answer is given again.")
    size: Quantity = Field(
        default="64Mi",
        description="Memory for answers in each router; the oldest go first. Default: 64Mi.",
    )


class OffloadSpec(Model):
    """Room for KV cache blocks that leave the accelerator's memory; a later request reads them back."""

    cpu: Quantity = Field(
        description="Memory of a replica for offloaded blocks, such as 20Gi. It is added to the engine's memory "
        "request and limit unless spec.resources sets them.",
    )
    disk: Quantity | None = Field(
        default=None,
        description="Disk of the node for blocks that leave that memory, such as 100Gi; an emptyDir of this size. "
        "The oldest blocks are deleted. Default: none.",
    )


class CacheSpec(Model):
    """Caches of a service."""

    prefix: bool = Field(
        default=True,
        description="Reuse the KV cache of a prompt's known beginning. Default: true, where the model allows it.",
    )
    compile: bool | None = Field(
        default=None,
        description="Compile the model with torch.compile. Default: true on GPUs, false on cpu. GPUs keep CUDA graphs "
        "of decode steps without it. With runtime onnx: "
        "with TensorRT 10, on GPUs only, which needs a template.image that holds it. Default: false.",
    )
    model: ModelCacheSpec | None = Field(
        default=None,
        description="Where downloads and compiled kernels outlive a pod. Default: nowhere, each pod has its own.",
    )
    prefetch: bool = Field(
        default=False,
        description="Have nodes pull the images of oci:// sources, and the engine's, before an engine binds an "
        "accelerator there: by a Job of as many pods as replicas may come, at most 16, without accelerators. Engines "
        "don't wait for it. Default: false.",
    )
    offload: OffloadSpec | None = Field(
        default=None,
        description="Larger, slower memory for KV cache blocks; on GPUs. Default: none, evicted blocks are computed "
        "again.",
    )
    responses: ResponsesSpec | None = Field(
        default=None,
        description="Whole answers at temperature 0, or where a request asks for it. Default: none is kept.",
    )
