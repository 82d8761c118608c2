"""Status of an InferenceService. Numbers are short strings for people and printer columns."""

from typing import Annotated, Literal

from pydantic import Field

from slipstream_operator.api.base import ApiModel, list_map

Text = Annotated[str, Field(max_length=1024)]


class ConditionStatus(ApiModel):
    """Condition of the object."""

    type: Annotated[str, Field(max_length=316)] = Field(
        description="Type, such as Ready, Accepted, Available or SLOMet."
    )
    status: Literal["True", "False", "Unknown"] = Field(description="True, False or Unknown.")
    reason: Annotated[str, Field(max_length=1024)] = Field(
        description="Stable reason in CamelCase."
    )
    message: Annotated[str, Field(max_length=32768)] = Field(description="Explanation for people.")
    observed_generation: int | None = Field(
        default=None, description="Generation of the object that the condition is about."
    )
    last_transition_time: Annotated[
        str, Field(max_length=64, json_schema_extra={"format": "date-time"})
    ] = Field(description="Time of the last change of the status.")


class ObjectiveStatus(ApiModel):
    """State of an objective."""

    objective: Text = Field(description="Name of the objective, such as ttft-p95.")
    metric: Text = Field(description="Metric: ttft, tpot, e2e or throughput.")
    percentile: Text | None = Field(default=None, description="Percentile, such as p95.")
    target: Text = Field(description="Target value.")
    current: Text | None = Field(default=None, description="Current value. Absent without data.")
    attainment5m: Text | None = Field(
        alias="attainment5m",  # the generator would make it 5M
        default=None,
        description="Share of requests within the target over 5 minutes.",
    )
    attainment1h: Text | None = Field(
        alias="attainment1h",
        default=None,
        description="Share of requests within the target over one hour.",
    )
    budget_remaining: Text | None = Field(
        default=None, description="Remaining share of the error budget of one day."
    )


class ScalingStatus(ApiModel):
    """The last scaling decision."""

    desired: int = Field(description="Desired replicas.")
    reason: Text = Field(description="Reason for the decision.")
    since: Text = Field(description="Time since which this count is desired.")
    inputs: Text | None = Field(
        default=None, description="Measurements that the decision is based on."
    )
    model: Text | None = Field(
        default=None, description="Learned model of the engine's step time, with its uncertainty."
    )
    cold_start: Text | None = Field(
        default=None,
        description="Time from a pod's creation to its readiness (90th percentile).",
    )
    limited: Text | None = Field(
        default=None, description="Reason why no more replicas can run, if there is one."
    )


class BatchSpeculationStatus(ApiModel):
    """Speculation at some batch sizes; means over the engines of the service."""

    batch: Text = Field(description="Range of batch sizes, such as 5-8.")
    tokens: Text = Field(description="Draft tokens per request and step, such as 4.")
    gain: Text = Field(
        description="Decoding speed relative to the speed without draft tokens, such as 1.31, or unknown."
    )


class EngineStatus(ApiModel):
    """The resolved engine in short."""

    runtime: Text = Field(description="Runtime: vllm, onnx or simulator.")
    accelerator: Text = Field(description="Type and count of the accelerators of one replica.")
    quantization: Text | None = Field(default=None, description="Quantization method.")
    speculation: Text | None = Field(
        default=None, description="Draft model or method, and number of draft tokens."
    )
    speculation_disabled: Text | None = Field(
        default=None, description="Reason why the speculation of spec is switched off."
    )
    acceptance: Text | None = Field(
        default=None, description="Share of draft tokens that were accepted."
    )
    speculation_gain: Text | None = Field(
        default=None,
        description="Recent decoding speed, relative to the speed of the same engines without draft tokens. "
        "Unknown where it is not measured, as on GPUs.",
    )
    speculation_by_batch: list[BatchSpeculationStatus] | None = Field(
        default=None,
        max_length=16,
        description="Draft tokens that engines use at each batch size, and their gain.",
    )
    speculation_loss: Text | None = Field(
        default=None,
        description="Warning that speculation gains nothing at the present load, with a remedy.",
    )
    max_length: int | None = Field(default=None, description="Context length, if spec sets it.")
    kv_capacity_tokens: int | None = Field(
        default=None, description="KV cache capacity of one replica in tokens."
    )
    adapters: Text | None = Field(
        default=None,
        description="LoRA adapters by state: loaded, failed to load, or not known yet.",
    )
    image_digest: Text | None = Field(
        default=None,
        description="Digest of the image that the engines run, as the nodes report it; several during a change.",
    )


class ProfileStatus(ApiModel):
    """Shares of the time of requests over the last five minutes. A missing field is unknown."""

    ttft: Text | None = Field(
        default=None,
        description="Shares of the time to the first token by cause, the largest first.",
    )
    e2e: Text | None = Field(
        default=None,
        description="Shares of the whole time of requests by cause, the largest first.",
    )
    steps: Text | None = Field(
        default=None,
        description="Shares of the engines' time in steps that read prompts and in steps that only decode.",
    )
    batch: Text | None = Field(
        default=None,
        description="Mean sequences of a step, of the largest number that one engine runs.",
    )
    kv: Text | None = Field(
        default=None, description="Mean share of the KV cache in use, of the fullest replica."
    )
    decode: Text | None = Field(
        default=None,
        description="Mean time of a decode step, against the shortest time by the accelerator's facts, or by the "
        "learned step time where they are not stated.",
    )
    bottleneck: Text | None = Field(default=None, description="Largest cause, in one sentence.")


class BuildSourceStatus(ApiModel):
    """ModelBuild that a field names, and the artifact that is used for it."""

    field: Text = Field(description="Field that names the build, such as spec.model.uri.")
    build: Text = Field(description="Name of the ModelBuild.")
    artifact: Text | None = Field(
        default=None,
        description="Uri of the artifact in use. Absent while the build has published none.",
    )
    digest: Text | None = Field(default=None, description="SHA-256 of the artifact's manifest.")


class RevisionStatus(ApiModel):
    """Revision of the engines."""

    name: Text = Field(description="Name of the Deployment or LeaderWorkerSet.")
    hash: Text = Field(description="Hash of the settings whose change restarts pods.")
    weight: int = Field(description="Share of the requests in percent.")
    replicas: int = Field(description="Replicas that are ready.")
    role: Text | None = Field(
        default=None,
        description="Stable or Canary, during a rollout in steps and after a rollback.",
    )
    phase: Text | None = Field(
        default=None,
        description="Phase of the canary: Starting, Comparing, Promoting, Switched or Rejected.",
    )
    step: Text | None = Field(
        default=None, description="Present step of the canary, such as 1 of 3."
    )
    verdict: Text | None = Field(
        default=None,
        description="Verdict about the canary: NotWorse, Undecided, Worse or Aborted. Absent before a comparison.",
    )
    message: Text | None = Field(
        default=None, description="Figures of the comparison, or the reason of the verdict."
    )
    since: Text | None = Field(default=None, description="Start of the canary's step or phase.")


class InferenceServiceStatus(ApiModel):
    """Status of the service."""

    observed_generation: int | None = Field(
        default=None, description="Generation of spec that this status is about."
    )
    url: Text | None = Field(
        default=None, description="Base URL of the OpenAI-compatible API, which ends with /v1."
    )
    replicas: int | None = Field(default=None, description="Replicas that exist.")
    ready_replicas: int | None = Field(default=None, description="Replicas that are ready.")
    selector: Text | None = Field(
        default=None, description="Label selector of the pods, for the scale subresource."
    )
    conditions: (
        Annotated[list[ConditionStatus], Field(max_length=16, json_schema_extra=list_map("type"))]
        | None
    ) = Field(
        default=None,
        description="Conditions: Ready, Accepted, ModelReady, Available, SLOMet, ScalingActive, and while they "
        "are True Reconciling or Stalled.",
    )
    slo: (
        Annotated[
            list[ObjectiveStatus], Field(max_length=32, json_schema_extra=list_map("objective"))
        ]
        | None
    ) = Field(default=None, description="State of each objective, the strictest of a metric first.")
    scaling: ScalingStatus | None = Field(default=None, description="Last scaling decision.")
    engine: EngineStatus | None = Field(
        default=None, description="Summary of the resolved engine configuration."
    )
    profile: ProfileStatus | None = Field(
        default=None, description="Where the time of requests goes."
    )
    builds: (
        Annotated[
            list[BuildSourceStatus], Field(max_length=34, json_schema_extra=list_map("field"))
        ]
        | None
    ) = Field(default=None, description="Fields with a source build://name, and their artifacts.")
    revisions: Annotated[list[RevisionStatus], Field(max_length=16)] | None = Field(
        default=None,
        description="Revisions of the engines, while more than one exists or one was rejected.",
    )
