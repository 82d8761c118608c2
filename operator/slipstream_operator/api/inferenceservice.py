"""InferenceService: one served model and its objectives."""

from typing import Annotated, Final

import pydantic
from pydantic import Field

from slipstream_operator import names
from slipstream_operator.api import pod, runtimes
from slipstream_operator.api.base import ApiModel, rule, rules
from slipstream_operator.api.cache import CacheSpec
from slipstream_operator.api.engine import (
    AcceleratorSpec,
    AttentionSpec,
    BatchingSpec,
    EngineArgs,
    EngineSpec,
    ParallelismSpec,
    QuantizationSpec,
    SpeculationSpec,
)
from slipstream_operator.api.limits import LimitsSpec, OutputSpec
from slipstream_operator.api.model import ModelSpec
from slipstream_operator.api.rollout import RolloutSpec
from slipstream_operator.api.routing import RoutingSpec
from slipstream_operator.api.runtimes.simulator import SimulatorSpec
from slipstream_operator.api.scaling import ScalingSpec
from slipstream_operator.api.slo import SloSpec
from slipstream_operator.api.template import Template
from slipstream_operator.api.times import TimesSpec

_ROUTED = "(!has(self.routing) || !has(self.routing.mode) || self.routing.mode == 'Router')"


_CAN_BE_AN_IMAGE = (
    "(has(self.model) && self.model.uri.matches('^(oci|build)://') || "
    "has(self.speculation) && has(self.speculation.draft) && self.speculation.draft.matches('^(oci|build)://'))"
)


_ROUTER_TIMES: Final = {
    "hold": "holds the requests",
    "idle": "ends the streams",
    "body": "reads the bodies first",
}
"""Field of times that only the router applies -> action of the router."""


class InferenceServiceSpec(ApiModel):
    """Desired state of the service. `model.uri` alone is a valid service."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            *runtimes.RULES,
            rule(
                f"{_ROUTED} || !has(self.scaling) || self.scaling.minReplicas > 0",
                message="scaling.minReplicas: 0 needs routing.mode: Router, which holds requests while no replica "
                "is ready. Leave out routing.mode, or raise minReplicas.",
                field_path=".scaling",
            ),
            rule(
                f"{_ROUTED} || !has(self.cache) || !has(self.cache.responses)",
                message="cache.responses needs routing.mode: Router, which caches the responses. Leave out one of "
                "them.",
                field_path=".cache",
            ),
            rule(
                f"{_ROUTED} || !has(self.rollout) || !has(self.rollout.steps)",
                message="rollout.steps needs routing.mode: Router, which gives each revision its share of the "
                "requests. Leave out one of them.",
                field_path=".rollout",
            ),
            *[
                rule(
                    f"{_ROUTED} || !has(self.times) || !has(self.times.{field})",
                    message=f"times.{field} needs routing.mode: Router, which {action}. Leave out one of them.",
                    field_path=".times",
                )
                for field, action in _ROUTER_TIMES.items()
            ],
            rule(
                f"!has(self.cache) || !has(self.cache.prefetch) || !self.cache.prefetch || {_CAN_BE_AN_IMAGE}",
                message="cache.prefetch: true can't work because neither the model nor its draft is an oci:// "
                "source, and nodes can pull only images ahead. Package the model as an image, or set "
                "cache.model.claim to a ReadWriteMany claim.",
                field_path=".cache",
            ),
            rule(
                "!has(self.scaling) || self.replicas == 1",
                message_expression=(
                    "'replicas (%d) can\\'t be set together with scaling. Set scaling.minReplicas and "
                    "scaling.maxReplicas, or leave out scaling.'.format([self.replicas])"
                ),
                field_path=".replicas",
            ),
        )
    )
    model: ModelSpec | None = Field(default=None, description="Model to serve.")
    runtime: runtimes.Name | None = Field(
        default=None,
        description="Program of the engines. vllm (default) serves models with vLLM. onnx serves encoders, "
        "classifiers and rerankers with ONNX Runtime. simulator needs no model and behaves as "
        "spec.simulator describes, to try out a platform.",
    )
    simulator: SimulatorSpec | None = Field(
        default=None, description="Behavior of runtime: simulator."
    )
    accelerator: AcceleratorSpec | None = Field(
        default=None,
        description="Accelerators of one replica. Default: one accelerator of the profile's default type.",
    )
    resources: pod.Resources | None = Field(
        default=None,
        description="Requests and limits of the engine container. On accelerators, a resource that is not set "
        "here is taken from the accelerator in the ServingProfile. On cpu, the resources of the profile apply only if "
        "this field is absent. Without either, a pod on accelerators requests: 2 cores plus 1 per accelerator; 4Gi of "
        "memory plus 2Gi per accelerator and up to 5Gi of weights per accelerator; 10Gi of ephemeral storage plus the "
        "downloads (16Gi if their size is unknown). Its limit of memory is then its request plus the memory of its "
        "accelerators plus 16Gi, if the profile states their memory.",
    )
    parallelism: ParallelismSpec | None = Field(
        default=None, description="Split of one replica over its accelerators."
    )
    quantization: QuantizationSpec | None = Field(
        default=None, description="Quantization of the weights and the KV cache."
    )
    speculation: SpeculationSpec | None = Field(default=None, description="Speculative decoding.")
    cache: CacheSpec | None = Field(default=None, description="Caches of the service.")
    batching: BatchingSpec | None = Field(
        default=None, description="Batching of requests in one engine."
    )
    limits: LimitsSpec | None = Field(
        default=None, description="Limits of requests, of concurrency and of the queue."
    )
    output: OutputSpec | None = Field(
        default=None,
        description="Format of the responses: a schema, regex or grammar, and stop sequences.",
    )
    attention: AttentionSpec | None = Field(default=None, description="Attention of the model.")
    engine: EngineSpec | None = Field(
        default=None, description="Version of the program that engines run."
    )
    engine_args: EngineArgs | None = Field(
        default=None,
        description="Arguments of vLLM by their long names without the leading dashes, such as max-num-seqs: 64. "
        "They are checked against the arguments of the pinned vLLM version. An argument is refused "
        "if it has no effect or if a field sets the same. JSON values are written as text.",
    )
    slo: SloSpec | None = Field(default=None, description="Latency and throughput objectives.")
    scaling: ScalingSpec | None = Field(
        default=None,
        description="Scaling of the replica count. Default: the fixed count of replicas.",
    )
    replicas: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=1,
        description="Replica count if scaling is not set. kubectl scale changes it. 0 stops the service, which is then "
        "Ready with reason Stopped, and not Available. Default: 1.",
    )
    rollout: RolloutSpec | None = Field(
        default=None, description="Strategy for the replacement of engines after a change."
    )
    routing: RoutingSpec | None = Field(
        default=None, description="Routing of requests, and the API keys that they need."
    )
    times: TimesSpec | None = Field(
        default=None,
        description="Limits of the time for a start, a drain, a held request, a silent stream and a request's body.",
    )
    template: Template | None = Field(
        default=None, description="Overrides of the engine pods. They win over all other sources."
    )


NAME_RULES = rules(
    rule(
        f"self.metadata.name.matches('{names.NAME_PATTERN}')",
        message_expression=(
            "'metadata.name \"' + self.metadata.name + '\" must be at most 40 characters (a-z, 0-9, -) and start "
            "with a letter, because child objects add suffixes. Put a longer name, or a name with dots, into "
            "spec.model.name.'"
        ),
    ),
    rule(
        "!self.metadata.name.startsWith('slipstream-')",
        message_expression=(
            "'metadata.name \"' + self.metadata.name + '\" starts with slipstream-, which is reserved for the "
            "operator. Use another name.'"
        ),
    ),
)
