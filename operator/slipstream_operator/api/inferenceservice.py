"""InferenceService: one served model and its objectives, as an app team writes it."""

from typing import Annotated

import pydantic
from pydantic import Field

from slipstream_operator import names
from slipstream_operator.api import pod, runtimes
from slipstream_operator.api.base import Model, rule, rules
from slipstream_operator.api.cache import CacheSpec
from slipstream_operator.api.engine import (
    AcceleratorSpec,
    AttentionSpec,
    BatchingSpec,
    EngineArgs,
    ParallelismSpec,
    QuantizationSpec,
    SpeculationSpec,
)
from slipstream_operator.api.limits import LimitsSpec, OutputSpec
from slipstream_operator.api.model import ModelSpec
from slipstream_operator.api.routing import RoutingSpec
from slipstream_operator.api.runtimes.simulator import SimulatorSpec
from slipstream_operator.api.scaling import RolloutSpec, ScalingSpec
from slipstream_operator.api.slo import SloSpec
from slipstream_operator.api.template import Template
from slipstream_operator.api.times import Times

_ROUTED = "(!has(self.routing) || !has(self.routing.mode) || self.routing.mode == 'Router')"


_HAS_AN_IMAGE = (
    "(has(self.model) && self.model.uri.startsWith('oci://') || "
    "has(self.speculation) && has(self.speculation.draft) && self.speculation.draft.startsWith('oci://'))"
)


class InferenceServiceSpec(Model):
    """Model to serve, its accelerators and its objectives. `model.uri` alone is a valid service."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            *runtimes.RULES,
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
        )
    )
    model: ModelSpec | None = Field(default=None, description="The model to serve.")
    runtime: runtimes.Name | None = Field(
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
