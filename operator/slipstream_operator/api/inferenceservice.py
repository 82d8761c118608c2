"""InferenceService: one served model and its objectives, as an app team writes it."""

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from slipstream_operator import names
from slipstream_operator.api import pod
from slipstream_operator.api.base import Duration, FineDuration, Model, Quantity, rule, rules
from slipstream_operator.api.engine import (
    Adapters,
    AttentionSpec,
    EngineArgs,
    ParallelismSpec,
    SpeculationSpec,
)
from slipstream_operator.api.limits import LimitsSpec, OutputSpec
from slipstream_operator.api.routing import RoutingSpec
from slipstream_operator.api.sources import ModelUri
from slipstream_operator.api.template import Template
from slipstream_operator.api.times import Times


class SecretKey(Model):
    """A key of a Secret in the same namespace."""

    name: Annotated[str, Field(min_length=1, max_length=253, description="Name of the Secret.")]
    key: Annotated[str, Field(min_length=1, max_length=253, description="Key inside it.")]


class StoreCredentials(Model):
    """A Secret in the same namespace.

    Its keys are AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION and AWS_ENDPOINT_URL for
    s3://, and GOOGLE_APPLICATION_CREDENTIALS, a service account's key file, for gs://.
    """

    name: Annotated[str, Field(min_length=1, max_length=253, description="Name of the Secret.")]


class ModelSpec(Model):
    """The model to serve."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.maxAdapterRank) || has(self.adapters)",
                message="maxAdapterRank needs adapters: list them, or write adapters: [] for none yet",
                field_path=".maxAdapterRank",
            )
        )
    )
    uri: ModelUri = Field(
        description="Where the weights are: hf://org/name[@revision], pvc://claim/path, s3://bucket/prefix, "
        "gs://bucket/prefix, oci://registry/image:tag (an ordinary image with the model's files at its root or in "
        "/models, mounted as an image volume), or file:///path (already in the container). The ServingProfile says "
        "which of them are allowed."
    )
    name: Annotated[str, Field(min_length=1, max_length=253)] | None = Field(
        default=None, description="Name that clients ask for. Default: metadata.name."
    )
    token_secret: SecretKey | None = Field(
        default=None,
        description="Token for gated sources; reaches the pod as an environment variable.",
    )
    credentials: StoreCredentials | None = Field(
        default=None,
        description="Secret with credentials for s3:// and gs:// sources, mounted as files. Default: the identity of "
        "the pod, such as that of template.serviceAccountName.",
    )
    load: Literal["Auto", "Streamed"] | None = Field(
        default=None,
        description="How vLLM reads the weights: Auto, or Streamed by the Run:ai model streamer, several parts of a "
        "file at once, where the image has it. Default: Auto.",
    )
    max_length: Annotated[int, Field(ge=16, le=10_000_000)] | None = Field(
        default=None, description="Context length in tokens. Default: the model's own."
    )
    adapters: Adapters | None = Field(
        default=None,
        description="LoRA adapters. A change reaches running engines within about two minutes, without a restart; "
        "the first one, or an empty list, makes them ready for adapters, with a restart.",
    )
    max_adapter_rank: Literal[8, 16, 32, 64, 128, 256, 320, 512] | None = Field(
        default=None,
        description="Highest rank of an adapter that can be added without a restart. Default: of those that are there "
        "when an engine starts, at least 16.",
    )
    trust_remote_code: bool = Field(
        default=False,
        description="Run code that the model brings. Refused unless the ServingProfile allows it.",
    )


class SimulatorSpec(Model):
    """An engine without a model: a step takes alpha + beta*sequences + gamma*KV tokens + delta*prefill tokens."""

    alpha: FineDuration = Field(
        default="7ms", description="Fixed time of one engine step. Default: 7ms."
    )
    beta: FineDuration = Field(
        default="20us", description="Time per running sequence. Default: 20us."
    )
    gamma: FineDuration = Field(
        default="60ns", description="Time per resident KV token. Default: 60ns."
    )
    delta: FineDuration = Field(
        default="32us", description="Time per prefill token. Default: 32us."
    )
    kv_tokens: Annotated[int, Field(ge=16, le=100_000_000)] = Field(
        default=200_000, description="KV cache capacity in tokens. Default: 200000."
    )
    max_sequences: Annotated[int, Field(ge=1, le=65536)] = Field(
        default=256, description="Sequences that run at once. Default: 256."
    )
    cold_start: Duration = Field(default="10s", description="From start to ready. Default: 10s.")


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


_PERCENTILES = ("p50", "p90", "p95", "p99")


class Percentiles(Model):
    """Upper bounds: `p95: 500ms` means that 95 % of the requests in the window are faster."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                " || ".join(f"has(self.{name})" for name in _PERCENTILES),
                message="needs at least one of p50, p90, p95 and p99, such as {p95: 500ms}",
            ),
            *(
                rule(
                    f"!has(self.{low}) || !has(self.{high}) || duration(self.{low}) <= duration(self.{high})",
                    message_expression=(
                        f"'{low} (' + self.{low} + ') must not be more than {high} (' + self.{high} + "
                        f"'): raise {high} or lower {low}'"
                    ),
                    field_path=f".{low}",
                )
                for index, low in enumerate(_PERCENTILES)
                for high in _PERCENTILES[index + 1 :]
            ),
        )
    )
    p50: Duration | None = Field(default=None, description="Half of the requests are faster.")
    p90: Duration | None = Field(default=None, description="90 % of the requests are faster.")
    p95: Duration | None = Field(default=None, description="95 % of the requests are faster.")
    p99: Duration | None = Field(default=None, description="99 % of the requests are faster.")


class ThroughputSpec(Model):
    """Capacity that the service keeps, whatever the traffic is now."""

    output_tokens_per_second: Annotated[int, Field(ge=1, le=1_000_000_000)] = Field(
        description="Output tokens per second that all replicas together can make inside the latency objectives."
    )


class LatencyObjectives(Model):
    """Latency objectives by metric; also a tier of a ServingProfile."""

    ttft: Percentiles | None = Field(
        default=None, description="Time to first token: how long a client waits for the first word."
    )
    tpot: Percentiles | None = Field(
        default=None,
        description="Time per output token after the first: how fast the answer flows.",
    )
    e2e: Percentiles | None = Field(default=None, description="From request to the last token.")


class SloSpec(LatencyObjectives):
    """Service level objectives: what scaling has to keep, and status reports on."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.tier) || has(self.ttft) || has(self.tpot) || has(self.e2e) || has(self.throughput)",
                message="needs at least one of tier, ttft, tpot, e2e and throughput, such as {ttft: {p95: 500ms}}",
            )
        )
    )
    tier: Annotated[str, Field(min_length=1, max_length=63)] | None = Field(
        default=None,
        description="Objectives of this name in the ServingProfile; those given here win over it, one by one.",
    )
    throughput: ThroughputSpec | None = Field(
        default=None, description="Capacity in output tokens that the service as a whole keeps."
    )


class ScalingSpec(Model):
    """Bounds of the replica count, which follows load and objectives inside them."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.maxReplicas >= self.minReplicas",
                message_expression=(
                    "'maxReplicas (%d) must not be less than minReplicas (%d)'"
                    ".format([self.maxReplicas, self.minReplicas])"
                ),
                field_path=".maxReplicas",
            ),
            rule(
                "(self.minReplicas == 0) == has(self.idleAfter)",
                message="minReplicas: 0 and idleAfter need each other: give both, such as "
                "{minReplicas: 0, idleAfter: 15m, maxReplicas: 4}, or neither",
                field_path=".minReplicas",
            ),
        )
    )
    min_replicas: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=1,
        description="Never fewer than these. 0 stops the engines after idleAfter; the router holds the next request "
        "until one is up. Default: 1.",
    )
    max_replicas: Annotated[int, Field(ge=1, le=1000)] = Field(description="Never more than these.")
    idle_after: Duration | None = Field(
        default=None,
        description="Without a request for this long the engines stop, with minReplicas: 0.",
    )
    paused: bool = Field(default=False, description="Keep the present count. Default: false.")
    mode: Literal["Auto", "Recommend"] = Field(
        default="Auto",
        description="Recommend shows in status what it would do, and does not do it.",
    )


class RolloutSpec(Model):
    """Replacement of the engines after a change."""

    strategy: Literal["Canary", "Recreate"] = Field(
        default="Canary",
        description="Canary starts the new engines beside the old and moves traffic once they are ready (default); "
        "Recreate stops the old first, where no accelerator is spare.",
    )


def _unless_onnx(expression: str, message: str, *, field_path: str | None = None) -> dict[str, str]:
    """A rule that only services with runtime onnx must keep."""
    return rule(
        f"!has(self.runtime) || self.runtime != 'onnx' || ({expression})",
        message=message,
        field_path=field_path,
    )


_NOT_WITH_ONNX = {
    "speculation": "generates no tokens",
    "output": "generates no tokens",
    "attention": "computes attention as the model was exported",
    "parallelism": "runs a replica on one accelerator",
}
"""Field -> why runtime onnx can do nothing with it. CEL cannot see engineArgs, whose values have no one type."""
_ONNX_RULES = (
    *(
        _unless_onnx(
            f"!has(self.{field})",
            f"{field} can't be used with runtime: onnx, which {why}: leave out one of them",
            field_path=f".{field}",
        )
        for field, why in _NOT_WITH_ONNX.items()
    ),
    _unless_onnx(
        "!has(self.model) || (!has(self.model.adapters) && !has(self.model.maxAdapterRank))",
        "model.adapters and model.maxAdapterRank can't be used with runtime: onnx, which loads no LoRA: leave them "
        "out, and merge an adapter into the model before its export",
        field_path=".model",
    ),
    _unless_onnx(
        "!has(self.limits) || !has(self.limits.maxOutputTokens)",
        "limits.maxOutputTokens can't be used with runtime: onnx, which generates no tokens: leave it out, and keep "
        "maxPromptTokens, timeout, concurrency and queue",
        field_path=".limits",
    ),
    _unless_onnx(
        "!has(self.quantization) || ("
        "(!has(self.quantization.method) || self.quantization.method in ['none', 'auto']) && "
        "(!has(self.quantization.kvCache) || self.quantization.kvCache == 'auto'))",
        "quantization can't be used with runtime: onnx, which runs the model as it was exported: "
        "leave it out, and point model.uri at a model that was quantised before its export",
        field_path=".quantization",
    ),
    _unless_onnx(
        "!has(self.slo) || (!has(self.slo.ttft) && !has(self.slo.tpot) && !has(self.slo.throughput))",
        "slo.ttft, slo.tpot and slo.throughput can't be used with runtime: onnx, which generates no tokens: "
        "use slo.e2e, such as {p95: 200ms}",
        field_path=".slo",
    ),
    _unless_onnx(
        "!has(self.cache) || !has(self.cache.prefix)",
        "cache.prefix can't be used with runtime: onnx, which has no KV cache: leave it out",
        field_path=".cache",
    ),
    _unless_onnx(
        "!has(self.cache) || !has(self.cache.offload)",
        "cache.offload can't be used with runtime: onnx, which has no KV cache: leave it out",
        field_path=".cache",
    ),
    _unless_onnx(
        "!has(self.batching) || (!has(self.batching.chunkedPrefill) && !has(self.batching.policy))",
        "batching.chunkedPrefill and batching.policy can't be used with runtime: onnx: leave them out, and keep "
        "maxSequences and maxBatchedTokens",
        field_path=".batching",
    ),
    _unless_onnx(
        "!has(self.model) || !has(self.model.trustRemoteCode) || !self.model.trustRemoteCode",
        "model.trustRemoteCode can't be used with runtime: onnx, which runs no code of a model: leave it out",
        field_path=".model",
    ),
)


_ROUTED = "(!has(self.routing) || !has(self.routing.mode) || self.routing.mode == 'Router')"


_HAS_AN_IMAGE = (
    "(has(self.model) && self.model.uri.startsWith('oci://') || "
    "has(self.speculation) && has(self.speculation.draft) && self.speculation.draft.startsWith('oci://'))"
)


class InferenceServiceSpec(Model):
    """Model to serve, its accelerators and its objectives. `model.uri` alone is a valid service."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.model) || (has(self.runtime) && self.runtime == 'simulator')",
                message="model is needed: give model.uri, or runtime: simulator to try the platform without one",
            ),
            rule(
                "!(has(self.model) && has(self.runtime) && self.runtime == 'simulator')",
                message="model can't be used with runtime: simulator, which has no model: leave out one of them",
            ),
            rule(
                "!has(self.simulator) || (has(self.runtime) && self.runtime == 'simulator')",
                message="simulator needs runtime: simulator: set it, or leave simulator out",
            ),
            rule(
                "!(has(self.runtime) && self.runtime == 'simulator') "
                "|| !(has(self.limits) || has(self.output))",
                message="limits and output can't be used with runtime: simulator, which keeps none of them: "
                "leave them out",
            ),
            rule(
                "!(has(self.runtime) && self.runtime == 'simulator') || !has(self.routing) "
                "|| !has(self.routing.apiKeys) || !has(self.routing.mode) || self.routing.mode == 'Router'",
                message="routing.apiKeys needs routing.mode: Router with runtime: simulator, which checks no keys: "
                "leave out one of them",
                field_path=".routing",
            ),
            rule(
                f"{_ROUTED} || !has(self.scaling) || self.scaling.minReplicas > 0",
                message="scaling.minReplicas: 0 needs routing.mode: Router, which holds requests while no replica is "
                "up: leave out routing.mode, or raise minReplicas",
                field_path=".scaling",
            ),
            rule(
                f"{_ROUTED} || !has(self.cache) || !has(self.cache.responses)",
                message="cache.responses needs routing.mode: Router, which keeps the answers: leave out one of them",
                field_path=".cache",
            ),
            rule(
                f"{_ROUTED} || !has(self.times) || !has(self.times.hold)",
                message="times.hold needs routing.mode: Router, which holds the requests: leave out one of them",
                field_path=".times",
            ),
            rule(
                f"!has(self.cache) || !has(self.cache.prefetch) || !self.cache.prefetch || {_HAS_AN_IMAGE}",
                message="cache.prefetch: true can't work because neither the model nor its draft is oci://, and nodes "
                "keep nothing but images without hostPath: package the model as an image, or have it downloaded once "
                "into a ReadWriteMany claim by cache.model.claim",
                field_path=".cache",
            ),
            rule(
                "!has(self.scaling) || self.replicas == 1",
                message_expression=(
                    "'replicas (%d) can\\'t be set together with scaling: set scaling.minReplicas and maxReplicas, "
                    "or leave scaling out'.format([self.replicas])"
                ),
                field_path=".replicas",
            ),
            *_ONNX_RULES,
        )
    )
    model: ModelSpec | None = Field(default=None, description="The model to serve.")
    runtime: Literal["vllm", "onnx", "simulator"] | None = Field(
        default=None,
        description="vllm (default); onnx: encoders, classifiers and rerankers on ONNX Runtime; or simulator: no "
        "model, behaves by spec.simulator, for trying platforms out.",
    )
    simulator: SimulatorSpec | None = Field(
        default=None, description="Behaviour of runtime simulator; all fields have defaults."
    )
    accelerator: AcceleratorSpec | None = Field(
        default=None,
        description="What one replica runs on. Default: one of the profile's default accelerator.",
    )
    resources: pod.Resources | None = Field(
        default=None,
        description="Requests and limits of the engine container. Default: the profile's for the accelerator; on "
        "accelerators resource by resource, then requests of 2 cores and 1 per accelerator, memory of 4Gi, 2Gi per "
        "accelerator and up to 5Gi of weights per accelerator, and ephemeral storage of 10Gi and the downloads "
        "(16Gi if their size is unknown).",
    )
    parallelism: ParallelismSpec | None = Field(
        default=None, description="How one replica is spread over its accelerators."
    )
    quantization: QuantizationSpec | None = Field(
        default=None, description="Fewer bits per weight."
    )
    speculation: SpeculationSpec | None = Field(
        default=None, description="Guess tokens cheaply, verify them in one step."
    )
    cache: CacheSpec | None = Field(default=None, description="What is kept to be used again.")
    batching: BatchingSpec | None = Field(
        default=None, description="How requests share engine steps."
    )
    limits: LimitsSpec | None = Field(
        default=None, description="What a request may ask for, and how many may ask at once."
    )
    output: OutputSpec | None = Field(
        default=None, description="The form of the answers: a schema, regex or grammar, and stops."
    )
    attention: AttentionSpec | None = Field(default=None, description="How attention is computed.")
    engine_args: EngineArgs | None = Field(
        default=None,
        description="Arguments of vLLM by their long names without dashes, such as max-num-seqs: 64. They are checked "
        "against the pinned vLLM's own list; JSON values are written as text.",
    )
    slo: SloSpec | None = Field(default=None, description="Latency and throughput objectives.")
    scaling: ScalingSpec | None = Field(
        default=None, description="Bounds of the replica count. Without it the count is replicas."
    )
    replicas: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=1,
        description="Replica count when scaling is absent; kubectl scale writes it. 0 stops the service.",
    )
    rollout: RolloutSpec | None = Field(
        default=None, description="How a changed engine replaces the old one."
    )
    routing: RoutingSpec | None = Field(
        default=None, description="How requests reach the service, and who may send them."
    )
    times: Times | None = Field(
        default=None, description="Longest times of a start, a drain and a held request."
    )
    template: Template | None = Field(
        default=None, description="Overrides of the engine pods, merged last."
    )


NAME_RULES = rules(
    rule(
        f"self.metadata.name.matches('{names.NAME_PATTERN}')",
        message_expression=(
            "'metadata.name \"' + self.metadata.name + '\" must be at most 40 of a-z, 0-9 and -, a letter first, "
            "since children add suffixes: put a longer name, or one with dots, into spec.model.name'"
        ),
    ),
    rule(
        "!self.metadata.name.startsWith('slipstream-')",
        message_expression=(
            "'metadata.name \"' + self.metadata.name + '\" begins with slipstream-, which is kept for the operator: "
            "choose another'"
        ),
    ),
)
