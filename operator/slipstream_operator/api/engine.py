"""Parts of InferenceService that say how the engine computes, and the escape hatch to vLLM's other arguments."""

from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from slipstream_operator.api.base import Model, Percentage, list_map, rule, rules
from slipstream_operator.api.sources import ModelUri

Ways = Annotated[int, Field(ge=1, le=64)]


class AdapterSpec(Model):
    """A LoRA adapter of the model."""

    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=128,
            json_schema_extra=rules(
                rule(
                    "self.matches('^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$')",
                    message_expression=(
                        "'\"' + self + '\" is not a name of letters, digits, ., _, / and -, with a letter or digit at "
                        "both ends'"
                    ),
                )
            ),
        ),
    ] = Field(description="Name that clients ask for, as if it were a model.")
    uri: ModelUri = Field(description="Where it is, as for model.uri; a folder in PEFT's format.")


Adapters = Annotated[list[AdapterSpec], Field(max_length=32, json_schema_extra=list_map("name"))]


class ParallelismSpec(Model):
    """Split of one replica over its accelerators; their count is tensor x pipeline x data."""

    tensor: Ways | None = Field(
        default=None,
        description="Each layer is split over this many. Default: what accelerator.count leaves.",
    )
    pipeline: Ways | None = Field(
        default=None, description="The layers are split into this many stages. Default: 1."
    )
    data: Ways | None = Field(
        default=None, description="This many engines share the requests of a replica. Default: 1."
    )
    nodes: Ways | None = Field(
        default=None,
        description="A replica is this many pods, each with an equal share of its accelerators, run as a "
        "LeaderWorkerSet; for models that fit on no single node. Default: 1.",
    )


class SpeculationSpec(Model):
    """Guess several tokens cheaply, verify them in one step; answers stay the same."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.draft) || has(self.method)",
                message="needs draft (a draft model), or method (ngram, suffix or mtp), or with eagle3 both "
                "(draft is its head)",
            ),
            rule(
                "!has(self.method) || self.method == 'eagle3' || !has(self.draft)",
                message_expression=(
                    "'method ' + self.method + ' guesses without a draft: leave out draft, or method'"
                ),
                field_path=".draft",
            ),
            rule(
                "!has(self.method) || self.method != 'eagle3' || has(self.draft)",
                message="method eagle3 needs draft: where the head is that was trained for this model",
            ),
            rule(
                "!has(self.draftQuantization) || has(self.draft)",
                message="needs draft: leave out draftQuantization, or name a draft model",
                field_path=".draftQuantization",
            ),
        )
    )
    draft: ModelUri | None = Field(
        default=None,
        description="A small model with the target's vocabulary that does the guessing; with eagle3 its head.",
    )
    method: Literal["ngram", "suffix", "eagle3", "mtp"] | None = Field(
        default=None,
        description="ngram copies from the prompt; suffix also from earlier answers, and needs an image with "
        "arctic-inference; eagle3 is a head trained for the model; mtp the model's own multi-token prediction. "
        "Default: a draft model.",
    )
    draft_quantization: Literal["auto", "fp8"] | None = Field(
        default=None,
        description="Precision of the draft's weights: auto is its checkpoint's, fp8 also quantizes while loading. "
        "Default: auto, whatever spec.quantization says of the model.",
    )
    tokens: Annotated[int, Field(ge=1, le=32)] = Field(
        default=4, description="Tokens guessed per step. Default: 4."
    )
    disable_below_acceptance: Percentage | None = Field(
        default=None,
        description="Stop guessing once a smaller share of the guesses than this, such as 30%, was accepted for a "
        "minute. Default: never.",
    )


class AttentionSpec(Model):
    """Computation of attention."""

    sliding_window: Annotated[int, Field(ge=16, le=10_000_000)] | None = Field(
        default=None,
        description="Tokens that a layer with a sliding window looks back; only models that were made with one. "
        "Default: the model's own.",
    )
    backend: Annotated[str, Field(min_length=1, max_length=63)] | None = Field(
        default=None,
        description="vLLM's attention backend, such as FLASH_ATTN or FLASHINFER. Default: vLLM's choice.",
    )


EngineArgs = Annotated[
    dict[
        Annotated[str, Field(max_length=63)],
        # A structural schema has no union of text, number and boolean; what fits is checked by the operator.
        Annotated[Any, pydantic.WithJsonSchema({"x-kubernetes-preserve-unknown-fields": True})],
    ],
    Field(max_length=64),
]


class AcceleratorSpec(Model):
    """Accelerators of one replica."""

    type: Annotated[str, Field(min_length=1, max_length=63)] | None = Field(
        default=None,
        description="An accelerator of the ServingProfile, such as nvidia-h100; cpu runs vLLM on CPU. "
        "Default: the profile's.",
    )
    count: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1,
        description="Accelerators of one replica (the tensor parallel size, unless parallelism says otherwise), or "
        "cores with type cpu; with runtime onnx one GPU. Default: 1, or what parallelism needs.",
    )


class QuantizationSpec(Model):
    """Fewer bits per weight."""

    method: Literal["none", "auto", "fp8", "int8", "int4", "awq", "gptq", "nvfp4", "mxfp4"] = Field(
        default="auto",
        description="auto reads the checkpoint (default); fp8 also quantises while loading; int8, int4, awq, "
        "gptq, nvfp4 and mxfp4 need a checkpoint that already is so; none refuses a quantised one. GPUs before Ada "
        "(A100, A10, T4) hold fp8 weights but multiply in 16 bits, as those before Blackwell do with nvfp4.",
    )
    kv_cache: Literal["auto", "fp8"] = Field(
        default="auto", description="Precision of the KV cache. Default: auto, the model's own."
    )


class BatchingSpec(Model):
    """Limits of one engine step."""

    max_sequences: Annotated[int, Field(ge=1, le=65536)] | None = Field(
        default=None,
        description="Sequences that one engine runs at once. Default: vLLM's, 128 on CPU, 256 to 1024 by GPU.",
    )
    max_batched_tokens: Annotated[int, Field(ge=16, le=1_048_576)] | None = Field(
        default=None, description="Tokens of one engine step. Default: vLLM's."
    )
    chunked_prefill: bool = Field(
        default=True,
        description="Split long prompts over several steps. Default: true, where the model allows it. vLLM "
        "warns that false may crash the engine or give wrong answers with models that generate.",
    )
    policy: Literal["fcfs", "priority"] = Field(
        default="fcfs", description="Order of waiting requests. Default: fcfs."
    )
