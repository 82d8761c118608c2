"""ServingProfile: defaults and limits of a platform."""

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from slipstream_operator.api import pod, units
from slipstream_operator.api.base import (
    ApiModel,
    ByteSize,
    Duration,
    Money,
    Percentage,
    Quantity,
    ShortText,
    list_map,
    rule,
    rules,
)
from slipstream_operator.api.network import NetworkSpec
from slipstream_operator.api.prometheus import Prometheus
from slipstream_operator.api.slo import LatencyObjectives
from slipstream_operator.api.times import TimesSpec
from slipstream_operator.api.tls import TlsSpec


class Accelerator(ApiModel):
    """Accelerator type of the platform."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.resourceName) || !has(self.deviceClass)",
                message="resourceName and deviceClass can't be used together. Keep one: resourceName for a device "
                "plugin, deviceClass for dynamic resource allocation.",
                field_path=".deviceClass",
            ),
            rule(
                "self.name != 'cpu' || !(has(self.deviceClass) || has(self.memory) || has(self.memoryShare) "
                "|| has(self.memoryBandwidth) || has(self.operations))",
                message="cpu has no device. Leave out deviceClass, memory, memoryShare, memoryBandwidth and "
                "operations.",
                field_path=".name",
            ),
            rule(
                "!has(self.memoryShare) || !self.memoryShare.matches('^0+([.]0+)?%$')",
                message="must be more than 0%. Use the share of one engine, such as 50%.",
                field_path=".memoryShare",
            ),
        )
    )

    name: ShortText = Field(
        description="Name that spec.accelerator.type refers to. cpu means engines on CPU."
    )
    resource_name: ShortText | None = Field(
        default=None, description="Extended resource, such as nvidia.com/gpu. Leave it out for cpu."
    )
    device_class: ShortText | None = Field(
        default=None,
        description="DeviceClass of dynamic resource allocation, such as gpu.nvidia.com, in place of "
        "resourceName. It needs Kubernetes 1.34.",
    )
    memory: ByteSize | None = Field(
        default=None,
        description="Memory of one device as CUDA reports it, such as 79Gi for an H100. If it is set, services "
        "that don't fit are refused before a node is provisioned.",
    )
    memory_share: Percentage | None = Field(
        default=None,
        description="Share of a device's memory for one engine, if engines share devices by time slicing or MPS, "
        "such as 50% for two engines. Default: 100%.",
    )
    memory_bandwidth: ByteSize | None = Field(
        default=None,
        description="Bytes that one device reads from its memory in a second, such as 3350G for an H100. With it, "
        "status.profile compares a decode step with the shortest possible one.",
    )
    operations: Quantity | None = Field(
        default=None,
        description="Floating point operations of one device per second in the models' precision, such as 989T for "
        "an H100 in bfloat16.",
    )
    hourly_cost: Money | None = Field(
        default=None,
        description='Cost of one device per hour, as text and in any currency, such as "2.50".',
    )
    node_selector: pod.Labels | None = Field(
        default=None, description="Labels of the nodes with this accelerator."
    )
    tolerations: pod.Tolerations | None = Field(
        default=None, description="Taints of these nodes that engine pods tolerate."
    )
    runtime_class_name: ShortText | None = Field(
        default=None, description="RuntimeClass that gives access to the devices."
    )
    resources: pod.Resources | None = Field(
        default=None, description="Requests and limits of the engine container for one replica."
    )
    provision_time: Duration | None = Field(
        default=None,
        description="Time for which a pod without a node counts as starting, while a node may be provisioned. "
        "Default: 15m, or 1m for cpu.",
    )
    times: TimesSpec | None = Field(
        default=None,
        description="Limits of the time for a start, a drain, a held request, a silent stream and a request's body, "
        "such as drain: 15s on spot nodes.",
    )

    @pydantic.field_validator("memory_share")
    @classmethod
    def _above_zero(cls, share: str | None) -> str | None:
        if share is not None and units.share(share) == 0:
            raise ValueError("must be more than 0%. Use the share of one engine, such as 50%.")
        return share


class ProfileScaling(ApiModel):
    """Settings of scaling."""

    scale_down_window: Duration | None = Field(
        default=None,
        description="Time for which fewer replicas must have been enough before scaling down. Default: 2m. The "
        "median time of a start counts if it is longer.",
    )


class VersionImages(ApiModel):
    """Images of one version of vLLM."""

    version: Annotated[str, Field(min_length=1, max_length=32)] = Field(
        description="Version of vLLM, such as 0.31.0."
    )
    vllm: ShortText | None = Field(default=None, description="Image of this version for GPUs.")
    vllm_cpu: ShortText | None = Field(default=None, description="Image of this version for CPUs.")


class Images(ApiModel):
    """Images of the data plane."""

    vllm: ShortText | None = Field(default=None, description="Image of vLLM for GPUs.")
    vllm_cpu: ShortText | None = Field(default=None, description="Image of vLLM for CPUs.")
    versions: (
        Annotated[list[VersionImages], Field(max_length=8, json_schema_extra=list_map("version"))]
        | None
    ) = Field(
        default=None,
        description="Images of other versions of vLLM, for services with engine.version.",
    )
    onnx: ShortText | None = Field(
        default=None,
        description="Image of ONNX Runtime. Services on GPUs need its CUDA build, which also runs on CPUs.",
    )
    simulator: ShortText | None = Field(
        default=None, description="Image of the simulator. Default: vllmCpu."
    )
    router: ShortText | None = Field(
        default=None,
        description="Image of the router, for services with routing.mode: Router (the default).",
    )
    builder: ShortText | None = Field(
        default=None, description="Image of the steps of a ModelBuild."
    )
    picker: ShortText | None = Field(
        default=None,
        description="Image of the endpoint picker of an inference gateway, for services with routing.mode: "
        "Gateway.",
    )
    allow: (
        Annotated[list[Annotated[str, Field(min_length=1, max_length=512)]], Field(max_length=64)]
        | None
    ) = Field(
        default=None,
        description="Patterns of images that services can name in spec.template, such as ghcr.io/team/*. * matches any "
        "text. Default: all.",
    )


class RouterSpec(ApiModel):
    """The router of each namespace."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.maxBodySize) || !isQuantity(string(self.maxBodySize)) || "
                "quantity(string(self.maxBodySize)).compareTo(quantity('64Mi')) <= 0",
                message="maxBodySize is more than engines accept. Use 64Mi or less.",
                field_path=".maxBodySize",
            ),
            rule(
                "!has(self.bodyMemory) || !isQuantity(string(self.bodyMemory)) || "
                "quantity(string(self.bodyMemory)).compareTo(quantity('64Mi')) >= 0",
                message="bodyMemory is less than the largest body. Use 64Mi or more.",
                field_path=".bodyMemory",
            ),
        )
    )
    replicas: Annotated[int, Field(ge=1, le=100)] | None = Field(
        default=None, description="Router pods in each namespace. Default: 2."
    )
    resources: pod.Resources | None = Field(
        default=None,
        description="Requests and limits of the router container. Default: requests of 100m CPU and 128Mi memory, "
        "and a limit of 512Mi memory, or more if bodyMemory needs it.",
    )
    node_selector: pod.Labels | None = Field(
        default=None,
        description="Labels of the nodes for routers and endpoint pickers.",
    )
    tolerations: pod.Tolerations | None = Field(
        default=None,
        description="Taints that routers and endpoint pickers tolerate.",
    )
    runtime_class_name: ShortText | None = Field(
        default=None, description="RuntimeClass of the router pods. Default: that of the cluster."
    )
    image_pull_secrets: pod.PullSecrets | None = Field(
        default=None,
        description="Secrets in each namespace for the registries of the images of routers and endpoint pickers.",
    )
    service_account_name: ShortText | None = Field(
        default=None,
        description="ServiceAccount in each namespace for routers and endpoint pickers, which the operator binds to "
        "their Roles. Default: a ServiceAccount that the operator creates.",
    )
    priority_class_name: ShortText | None = Field(
        default=None, description="PriorityClass of routers and endpoint pickers."
    )
    max_body_size: ByteSize | None = Field(
        default=None,
        description="Maximum size of a request's body with images, audio or video, at most 64Mi. Default: 64Mi. The "
        "text of a body has at most 16Mi.",
    )
    body_memory: ByteSize | None = Field(
        default=None,
        description="Maximum size of all bodies that one router pod holds until their responses begin. Further "
        "requests get 429. At least 64Mi. Default: 128Mi, or less if resources.limits.memory is less than 352Mi. The "
        "limit must be at least 96Mi plus twice this size. The rest is for cached responses.",
    )


class Sources(ApiModel):
    """Model sources that services can use."""

    allow: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=512)]], Field(max_length=64)
    ] = Field(
        default=["hf://*", "pvc://*"],
        description="Patterns of allowed model sources. * matches any text. Default: hf://* and pvc://*.",
    )
    trust_remote_code: bool = Field(
        default=False,
        description="Whether services can run code from model repositories. Default: false.",
    )


class AllowedArguments(ApiModel):
    """Arguments of vLLM that services can use."""

    allow: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=128)]], Field(max_length=64)
    ] = Field(
        default=[],
        description="Arguments that services can set in engineArgs although they load code, read files of the "
        "container or open connections, such as scheduler-cls. Default: none.",
    )


class AllowedNames(ApiModel):
    """Names of objects that services can use."""

    allow: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=253)]], Field(max_length=64)
    ] = Field(description="Patterns of names, such as hub-*. * matches any text.")


class AllowedServers(ApiModel):
    """Servers that routes can use."""

    allow: Annotated[
        list[
            Annotated[
                str,
                Field(pattern=r"^https?://[a-z0-9*.-]+(:[0-9]{1,5})?$", max_length=253),
            ]
        ],
        Field(max_length=64),
    ] = Field(
        default=[],
        description="Servers of searches outside of the route's own namespace, such as https://search.example.com or "
        "http://*.search.svc:8000. * matches a part of the host. Default: none.",
    )


class AllowedTemplate(ApiModel):
    """Parts of spec.template that services can use."""

    allow: Annotated[
        list[
            Annotated[
                str,
                Field(
                    pattern=r"^(env|hostPath|label|priorityClass|resource|toleration)[.][!-~]+$",
                    max_length=256,
                ),
            ]
        ],
        Field(max_length=64),
    ] = Field(
        default=[],
        description="Parts that services can set although they load code, redirect connections, or reach devices or "
        "beyond the namespace: env.NAME, hostPath.PATH, label.KEY, priorityClass.NAME, resource.NAME and "
        "toleration.KEY, such as env.HF_ENDPOINT. * matches any text. Default: none.",
    )


class ProfileLimits(ApiModel):
    """Limits of services."""

    max_replicas: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None, description="Maximum replicas of one service. Default: no limit."
    )
    max_accelerators_per_namespace: Annotated[int, Field(ge=0, le=100_000)] | None = Field(
        default=None,
        description="Maximum accelerators of all services in a namespace together, including rollouts. The oldest "
        "services get theirs first. Default: no limit.",
    )


class ServingProfileSpec(ApiModel):
    """Defaults and limits for the services in the selected namespaces."""

    namespace_selector: pod.LabelSelector | None = Field(
        default=None,
        description="Namespaces of the profile. The most specific profile wins, then the oldest. Default: all "
        "namespaces.",
    )
    tiers: Annotated[dict[ShortText, LatencyObjectives], Field(max_length=16)] | None = Field(
        default=None, description="Sets of objectives that services refer to by spec.slo.tier."
    )
    accelerators: Annotated[
        list[Accelerator], Field(min_length=1, max_length=32, json_schema_extra=list_map("name"))
    ] = Field(description="Accelerators that services can use.")
    default_accelerator: ShortText | None = Field(
        default=None,
        description="Name of the accelerator for services that set none. Default: the first "
        "accelerator.",
    )
    scaling: ProfileScaling | None = Field(default=None, description="Settings of scaling.")
    images: Images | None = Field(
        default=None, description="Images of engines, routers and endpoint pickers."
    )
    router: RouterSpec | None = Field(default=None, description="Router of each namespace.")
    tls: TlsSpec | None = Field(
        default=None,
        description="Certificates of routers and engines. Default: both serve plain HTTP.",
    )
    users: Literal["Fixed", "Assigned"] | None = Field(
        default=None,
        description="User and groups of all pods. Fixed: 65532. Assigned: pods name none, for clusters that assign "
        "them, such as OpenShift with the SCC restricted-v2. A change restarts the pods. Default: Fixed.",
    )
    sources: Sources | None = Field(
        default=None, description="Model sources that services can use."
    )
    engine_args: AllowedArguments | None = Field(
        default=None, description="Arguments of vLLM that services can use."
    )
    template: AllowedTemplate | None = Field(
        default=None, description="Parts of spec.template that services can use."
    )
    secrets: AllowedNames | None = Field(
        default=None,
        description="Secrets that services can name. Default: all that their authors may get or use.",
    )
    service_accounts: AllowedNames | None = Field(
        default=None,
        description="ServiceAccounts that services can name. Default: all that their authors may impersonate or use.",
    )
    retrieval: AllowedServers | None = Field(
        default=None, description="Servers of searches that routes can use in retrieve.url."
    )
    network: NetworkSpec | None = Field(
        default=None, description="Connections that NetworkPolicies admit to and from engines."
    )
    limits: ProfileLimits | None = Field(default=None, description="Limits of services.")
    prometheus: Prometheus | None = Field(
        default=None, description="Prometheus server with the metrics of engines and routers."
    )
