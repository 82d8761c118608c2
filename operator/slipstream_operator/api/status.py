"""Status of an InferenceService. Numbers are short strings, for people and printer columns."""

from typing import Annotated, Literal

from pydantic import Field

from slipstream_operator.api.base import Model, list_map

Text = Annotated[str, Field(max_length=1024)]


class ConditionStatus(Model):
    """One aspect of the service's state."""

    type: Annotated[str, Field(max_length=316)] = Field(
        description="Ready, Accepted, Available, SLOMet, ..."
    )
    status: Literal["True", "False", "Unknown"] = Field(description="True, False or Unknown.")
    reason: Annotated[str, Field(max_length=1024)] = Field(description="CamelCase reason, stable.")
    message: Annotated[str, Field(max_length=32768)] = Field(
        description="What it means, for people."
    )
    observed_generation: int | None = Field(
        default=None, description="Generation of the object that this was judged by."
    )
    last_transition_time: Annotated[
        str, Field(max_length=64, json_schema_extra={"format": "date-time"})
    ] = Field(description="When the status last flipped.")


class ObjectiveStatus(Model):
    """State of one objective."""

    objective: Text = Field(description="Such as ttft-p95.")
    metric: Text = Field(description="ttft, tpot, e2e or throughput.")
    percentile: Text | None = Field(default=None, description="Such as p95.")
    target: Text = Field(description="What was asked for.")
    current: Text | None = Field(
        default=None, description="What is measured now; absent without data."
    )
    attainment5m: Text | None = Field(
        alias="attainment5m",  # the generator would make it 5M
        default=None,
        description="Share of requests inside the target over 5 minutes.",
    )
    attainment1h: Text | None = Field(
        alias="attainment1h",
        default=None,
        description="Share of requests inside the target over an hour.",
    )
    budget_remaining: Text | None = Field(
        default=None, description="Share of the error budget that is left over the window."
    )


class ScalingStatus(Model):
    """The last scaling decision."""

    desired: int = Field(description="Replicas that are wanted.")
    reason: Text = Field(description="Why, in one sentence.")
    since: Text = Field(description="When this count was decided.")
    inputs: Text | None = Field(default=None, description="What the decision was made from.")
    model: Text | None = Field(
        default=None, description="What was learned about the engine's speed, and how surely."
    )
    cold_start: Text | None = Field(
        default=None,
        description="Seconds from a pod's creation to its readiness: 9 of 10 are faster.",
    )
    limited: Text | None = Field(
        default=None, description="Why more replicas can't be had now, if that is so."
    )


class EngineStatus(Model):
    """The resolved engine in short."""

    runtime: Text = Field(description="vllm, onnx or simulator.")
    accelerator: Text = Field(description="Type and count of one replica.")
    quantization: Text | None = Field(default=None, description="Method in use.")
    speculation: Text | None = Field(default=None, description="Draft or method, and tokens.")
    speculation_disabled: Text | None = Field(
        default=None, description="Why the speculation that spec asks for does not run."
    )
    acceptance: Text | None = Field(
        default=None, description="Share of guessed tokens that were accepted."
    )
    speculation_gain: Text | None = Field(
        default=None,
        description="Tokens per second of decoding with speculation, at most, over those without it, as sampled; "
        "unknown where it is not, as on GPUs.",
    )
    speculation_loss: Text | None = Field(
        default=None, description="That speculation makes decoding slower, and what to do."
    )
    max_length: int | None = Field(default=None, description="Context length, if it was set.")
    kv_capacity_tokens: int | None = Field(
        default=None, description="KV capacity of one replica in tokens."
    )
    adapters: Text | None = Field(
        default=None, description="LoRA adapters that clients can ask for, and those that failed."
    )


class RevisionStatus(Model):
    """One revision while more than one exists."""

    name: Text = Field(description="Name of its Deployment.")
    hash: Text = Field(description="Hash of what its pods must be restarted for.")
    weight: int = Field(description="Share of the traffic in percent.")
    replicas: int = Field(description="Replicas that are ready.")


class InferenceServiceStatus(Model):
    """State of the service."""

    observed_generation: int | None = Field(
        default=None, description="Generation that this status is about."
    )
    url: Text | None = Field(
        default=None, description="OpenAI-compatible base URL inside the cluster."
    )
    replicas: int | None = Field(default=None, description="Replicas that exist.")
    ready_replicas: int | None = Field(default=None, description="Replicas that are ready.")
    selector: Text | None = Field(
        default=None, description="Label selector of the pods, for /scale."
    )
    conditions: (
        Annotated[list[ConditionStatus], Field(max_length=16, json_schema_extra=list_map("type"))]
        | None
    ) = Field(
        default=None, description="Ready, Accepted, ModelReady, Available, SLOMet, ScalingActive."
    )
    slo: (
        Annotated[
            list[ObjectiveStatus], Field(max_length=32, json_schema_extra=list_map("objective"))
        ]
        | None
    ) = Field(
        default=None, description="How the objectives stand, the strictest of a metric first."
    )
    scaling: ScalingStatus | None = Field(default=None, description="The last scaling decision.")
    engine: EngineStatus | None = Field(default=None, description="The resolved engine in short.")
    revisions: Annotated[list[RevisionStatus], Field(max_length=16)] | None = Field(
        default=None, description="Revisions, while more than one exists."
    )
