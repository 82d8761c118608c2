"""Parts of InferenceService that configure the engine, and spec.engineArgs for vLLM's other arguments."""

from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from slipstream_operator.api.base import ApiModel, Percentage, list_map, rule, rules
from slipstream_operator.api.sources import ServedUri

Ways = Annotated[int, Field(ge=1, le=64)]


class AdapterSpec(ApiModel):
    """LoRA adapter of the model."""

    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=128,
            json_schema_extra=rules(
                rule(
                    "self.matches('^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$')",
                    message_expression=(
                        "'\"' + self + '\" is not a valid name. Use letters, digits, ., _, / and -, and start and "
                        "end with a letter or digit.'"
                    ),
                )
            ),
        ),
    ] = Field(description="Name that clients request as the model.")
    uri: ServedUri = Field(
        description="Source in the form of model.uri. It must be a folder in PEFT format."
    )
    revision: (
        Annotated[
            str,
            Field(
                min_length=1,
                max_length=64,
                json_schema_extra=rules(
                    rule(
                        "self.matches('^[A-Za-z0-9._-]+$')",
                        message_expression=(
                            "'\"' + self + '\" is not a valid revision. Use letters, digits, ., _ and -.'"
                        ),
                    )
                ),
            ),
        ]
        | None
    ) = Field(
        default=None,
        description="Any text that names the state of the files, such as a date. Engines load an adapter again when "
        "its uri or revision changes, so change it after the adapter was trained again at the same uri.",
    )


Adapters = Annotated[list[AdapterSpec], Field(max_length=32, json_schema_extra=list_map("name"))]


class ParallelismSpec(ApiModel):
    """Split of one replica over its accelerators. Their count is tensor x pipeline x data."""

    tensor: Ways | None = Field(
        default=None,
        description="Tensor-parallel size: accelerators that each layer is split over. Default: accelerator.count "
        "divided by pipeline x data.",
    )
    pipeline: Ways | None = Field(
        default=None,
        description="Pipeline-parallel size: stages that the layers are split into. Default: 1.",
    )
    data: Ways | None = Field(
        default=None,
        description="Data-parallel size: engines that share the requests of a replica. Default: 1.",
    )
    nodes: Ways | None = Field(
        default=None,
        description="Nodes of one replica, for models that don't fit on one node. A LeaderWorkerSet runs one pod "
        "on each node, with an equal share of the accelerators. Default: 1.",
    )


class SpeculationSpec(ApiModel):
    """Speculative decoding: draft tokens that the model verifies in one step. Responses stay the same."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.draft) || has(self.method)",
                message="needs draft or method. Set draft (a draft model), or method (ngram, suffix or mtp), or "
                "both for eagle3.",
            ),
            rule(
                "!has(self.method) || self.method == 'eagle3' || !has(self.draft)",
                message_expression=(
                    "'method ' + self.method + ' uses no draft model. Leave out draft or method.'"
                ),
                field_path=".draft",
            ),
            rule(
                "!has(self.method) || self.method != 'eagle3' || has(self.draft)",
                message="method eagle3 needs draft. Set draft to the source of the EAGLE-3 head that was trained "
                "for this model.",
            ),
            rule(
                "!has(self.draftQuantization) || has(self.draft)",
                message="draftQuantization needs draft. Leave out draftQuantization, or set draft.",
                field_path=".draftQuantization",
            ),
        )
    )
    draft: ServedUri | None = Field(
        default=None,
        description="Source of the draft model, which must have the vocabulary of the model; with eagle3 the "
        "source of the head.",
    )
    method: Literal["ngram", "suffix", "eagle3", "mtp"] | None = Field(
        default=None,
        description="Method. ngram copies from the prompt. suffix also copies from earlier responses, and needs "
        "an image with arctic-inference. eagle3 is a head that was trained for the model. mtp is the "
        "model's own multi-token prediction. Default: a draft model.",
    )
    draft_quantization: Literal["auto", "fp8"] | None = Field(
        default=None,
        description="Precision of the draft's weights. auto takes the precision of its checkpoint. fp8 also "
        "quantizes while loading. Default: auto, regardless of spec.quantization.",
    )
    tokens: Annotated[int, Field(ge=1, le=32)] = Field(
        default=4,
        description="Maximum draft tokens per step. Engines use as many as make decoding fastest at each batch "
        "size, by measurement. Default: 4.",
    )
    disable_below_acceptance: Percentage | None = Field(
        default=None,
        description="Minimum share of accepted draft tokens, such as 30%. Speculation is switched off after one "
        "minute below it. Default: never.",
    )
    disable_below_gain: Percentage | None = Field(
        default=None,
        description="Minimum gain in decoding speed, such as 5%. Speculation is switched off after one minute "
        "below it, which frees the memory of a draft model. Default: never; engines then use no draft tokens at "
        "batch sizes where these gain nothing.",
    )


class AttentionSpec(ApiModel):
    """Attention of the model."""

    sliding_window: Annotated[int, Field(ge=16, le=10_000_000)] | None = Field(
        default=None,
        description="Tokens of the sliding window, for models that have one. Default: from the model.",
    )
    backend: Annotated[str, Field(min_length=1, max_length=63)] | None = Field(
        default=None,
        description="Attention backend of vLLM, such as FLASH_ATTN or FLASHINFER. Default: vLLM's choice.",
    )


EngineArgs = Annotated[
    dict[
        Annotated[str, Field(max_length=63)],
        # A structural schema has no union of text, number and boolean, so the operator checks the types.
        Annotated[Any, pydantic.WithJsonSchema({"x-kubernetes-preserve-unknown-fields": True})],
    ],
    Field(max_length=64),
]


class AcceleratorSpec(ApiModel):
    """Accelerators of one replica."""

    type: Annotated[str, Field(min_length=1, max_length=63)] | None = Field(
        default=None,
        description="Name of an accelerator in the ServingProfile, such as nvidia-h100. cpu runs the engine on "
        "CPU. Default: from the ServingProfile.",
    )
    count: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1,
        description="Accelerators of one replica, or cores with type cpu. It is the tensor-parallel size unless "
        "parallelism is set. With runtime: onnx at most one GPU. Default: 1, or the count that "
        "parallelism needs.",
    )


class QuantizationSpec(ApiModel):
    """Quantization of the weights and the KV cache."""

    method: Literal["none", "auto", "fp8", "int8", "int4", "awq", "gptq", "nvfp4", "mxfp4"] = Field(
        default="auto",
        description="Quantization of the weights. auto (default) follows the checkpoint. fp8 also quantizes an "
        "unquantized checkpoint while loading. int8, int4, awq, gptq, nvfp4 and mxfp4 need a "
        "checkpoint in that format. none refuses a quantized checkpoint. GPUs before Ada (A100, A10, "
        "T4) store fp8 weights but compute in 16 bits; so do GPUs before Blackwell with nvfp4.",
    )
    kv_cache: Literal["auto", "fp8"] = Field(
        default="auto",
        description="Precision of the KV cache. auto (default) takes the precision of the model.",
    )


class BatchingSpec(ApiModel):
    """Limits of one engine step."""

    max_sequences: Annotated[int, Field(ge=1, le=65536)] | None = Field(
        default=None,
        description="Maximum sequences that one engine runs at once. Default: vLLM's, which is 128 on CPU and 256 "
        "to 1024 on GPUs.",
    )
    max_batched_tokens: Annotated[int, Field(ge=16, le=1_048_576)] | None = Field(
        default=None, description="Maximum tokens of one engine step. Default: vLLM's."
    )
    chunked_prefill: bool = Field(
        default=True,
        description="Whether long prompts are split over several steps. Default: true where the model supports "
        "it. vLLM warns that false can crash the engine or give wrong results with generative models.",
    )
    policy: Literal["fcfs", "priority"] = Field(
        default="fcfs",
        description="Order of queued requests in the engine. Default: fcfs, in order of arrival.",
    )


class EngineSpec(ApiModel):
    """Version of the program that engines run."""

    version: (
        Annotated[
            str,
            Field(
                min_length=1,
                max_length=32,
                json_schema_extra=rules(
                    rule(
                        "self.matches('^[0-9]+\\\\.[0-9]+\\\\.[0-9]+$')",
                        message_expression=(
                            "'\"' + self + '\" is not a version of vLLM. Use three numbers, such as 0.32.0.'"
                        ),
                    )
                ),
            ),
        ]
        | None
    ) = Field(
        default=None,
        description="Version of vLLM, one of images.versions in the ServingProfile. A change is rolled out as any "
        "other. Default: the version of the operator's release, with images.vllm or images.vllmCpu.",
    )
