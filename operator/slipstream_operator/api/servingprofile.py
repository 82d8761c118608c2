"""ServingProfile: defaults and limits of a platform, as its team writes them."""

from typing import Annotated

import pydantic
from pydantic import Field

from slipstream_operator.api import pod, units
from slipstream_operator.api.base import (
    Duration,
    Model,
    Money,
    Percentage,
    Quantity,
    ShortText,
    list_map,
    rule,
    rules,
)
from slipstream_operator.api.slo import LatencyObjectives
from slipstream_operator.api.times import Times


class Accelerator(Model):
    """A kind of accelerator that the platform has."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.resourceName) || !has(self.deviceClass)",
                message="names both resourceName and deviceClass: use only one, a device plugin or DRA",
                field_path=".deviceClass",
            ),
            rule(
                "self.name != 'cpu' || !(has(self.deviceClass) || has(self.memory) || has(self.memoryShare))",
                message="cpu has no device: leave out deviceClass, memory and memoryShare",
                field_path=".name",
            ),
            rule(
                "!has(self.memoryShare) || !self.memoryShare.matches('^0+([.]0+)?%$')",
                message="must be more than 0%: an engine needs a part of the device",
                field_path=".memoryShare",
            ),
        )
    )

    name: ShortText = Field(
        description="Name that spec.accelerator.type refers to; cpu means vLLM on CPU."
    )
    resource_name: ShortText | None = Field(
        default=None, description="Extended resource, such as nvidia.com/gpu; leave out for cpu."
    )
    device_class: ShortText | None = Field(
        default=None,
        description="DeviceClass of dynamic resource allocation, such as gpu.nvidia.com, in place of resourceName; "
        "needs Kubernetes 1.34.",
    )
    memory: Quantity | None = Field(
        default=None,
        description="Memory of one device as CUDA reports it, such as 79Gi for an H100. With it, services that do not "
        "fit are refused before a node is bought.",
    )
    memory_share: Percentage | None = Field(
        default=None,
        description="Share of a device's memory that one engine may use, where time slicing or MPS lets several share "
        "it: 50% for two. Default: all.",
    )
    hourly_cost: Money | None = Field(
        default=None,
        description='Cost of one device for an hour, as text and in any currency, such as "2.50".',
    )
    node_selector: pod.Labels | None = Field(
        default=None, description="Labels of the nodes that have it."
    )
    tolerations: pod.Tolerations | None = Field(default=None, description="Taints of those nodes.")
    runtime_class_name: ShortText | None = Field(
        default=None, description="RuntimeClass that gives access."
    )
    resources: pod.Resources | None = Field(
        default=None, description="Requests and limits of the engine container for one replica."
    )
    provision_time: Duration | None = Field(
        default=None,
        description="A pod without a node counts as starting for this long, since one may be on the way. "
        "Default: 15m, and 1m for cpu.",
    )
    times: Times | None = Field(
        default=None,
        description="Longest times of a start, a drain and a held request on it, such as drain: 15s on spot nodes.",
    )

    @pydantic.field_validator("memory_share")
    @classmethod
    def _above_zero(cls, share: str | None) -> str | None:
        if share is not None and units.share(share) == 0:
            raise ValueError("must be more than 0%: an engine needs a part of the device")
        return share


class ProfileScaling(Model):
    """Pace of scaling."""

    scale_down_window: Duration | None = Field(
        default=None,
        description="A lower need must have lasted this long. Default: 2m, or as long as a start takes.",
    )


class Images(Model):
    """Images of the data plane."""

    vllm: ShortText | None = Field(default=None, description="vLLM for GPUs.")
    vllm_cpu: ShortText | None = Field(default=None, description="vLLM for CPUs.")
    onnx: ShortText | None = Field(
        default=None,
        description="ONNX Runtime; its CUDA build, which serves CPUs as well, where services run on GPUs.",
    )
    simulator: ShortText | None = Field(
        default=None, description="The simulator; default: vllmCpu."
    )
    router: ShortText | None = Field(
        default=None,
        description="The router of a namespace, which services with routing.mode: Router (the default) need.",
    )
    picker: ShortText | None = Field(
        default=None,
        description="The endpoint picker of an inference gateway, which services with routing.mode: Gateway need.",
    )


class RouterSpec(Model):
    """The router of each namespace."""

    replicas: Annotated[int, Field(ge=1, le=100)] | None = Field(
        default=None, description="Pods of the router. Default: 2."
    )
    resources: pod.Resources | None = Field(
        default=None,
        description="Requests and limits of its container. Default: 100m of CPU, 128Mi to 512Mi of memory.",
    )
    node_selector: pod.Labels | None = Field(
        default=None,
        description="Labels of the nodes that it, and endpoint pickers, may run on.",
    )
    tolerations: pod.Tolerations | None = Field(
        default=None,
        description="Taints of nodes that it, and endpoint pickers, may run on.",
    )
    runtime_class_name: ShortText | None = Field(
        default=None, description="RuntimeClass of its pods. Default: the cluster's."
    )
    image_pull_secrets: pod.PullSecrets | None = Field(
        default=None,
        description="Secrets, in each namespace, for the registries of its image and of endpoint pickers.",
    )


class Sources(Model):
    """Model sources that may be served."""

    allow: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=512)]], Field(max_length=64)
    ] = Field(
        default=["hf://*", "pvc://*"],
        description="Patterns of model sources; * matches anything. Default: hf://* and pvc://*.",
    )
    trust_remote_code: bool = Field(
        default=False,
        description="Whether services may run code that models bring. Default: false.",
    )


class ProfileLimits(Model):
    """Most that services may ask for."""

    max_replicas: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None, description="Most replicas of one service."
    )
    max_accelerators_per_namespace: Annotated[int, Field(ge=0, le=100_000)] | None = Field(
        default=None,
        description="Most accelerators of all services of a namespace together, those of a rollout included; the "
        "oldest services get theirs first.",
    )


class Prometheus(Model):
    """Prometheus that measures latencies and load."""

    url: Annotated[str, Field(min_length=1, max_length=512)] = Field(
        description="Base URL, such as http://prometheus.monitoring.svc:9090."
    )
    window: Duration | None = Field(
        default=None,
        description="Range of rates; at least four scrape intervals. Default: 1m.",
    )


class ServingProfileSpec(Model):
    """Defaults and limits for the services of some namespaces."""

    namespace_selector: pod.LabelSelector | None = Field(
        default=None,
        description="Namespaces it is for; the most specific profile wins, then the oldest.",
    )
    tiers: Annotated[dict[ShortText, LatencyObjectives], Field(max_length=16)] | None = Field(
        default=None, description="Objectives that services take by name, with spec.slo.tier."
    )
    accelerators: Annotated[
        list[Accelerator], Field(min_length=1, max_length=32, json_schema_extra=list_map("name"))
    ] = Field(description="Accelerators that services may ask for.")
    default_accelerator: ShortText | None = Field(
        default=None, description="Accelerator of services that name none. Default: the first."
    )
    scaling: ProfileScaling | None = Field(
        default=None, description="How fast replica counts follow."
    )
    images: Images | None = Field(default=None, description="Images of the data plane.")
    router: RouterSpec | None = Field(default=None, description="The router of each namespace.")
    sources: Sources | None = Field(default=None, description="What may be served.")
    limits: ProfileLimits | None = Field(default=None, description="What one service may ask for.")
    prometheus: Prometheus | None = Field(
        default=None, description="Where latencies and load are measured."
    )
