"""spec.template: overrides of the engine pods."""

from typing import Annotated, Any, Final

import pydantic
from pydantic import Field

from slipstream_operator import names
from slipstream_operator.api import pod
from slipstream_operator.api.affinity import Affinity
from slipstream_operator.api.base import (
    ApiModel,
    LabelKey,
    LabelValue,
    ShortText,
    list_map,
    rule,
    rules,
)
from slipstream_operator.api.containers import InitContainers, Variables
from slipstream_operator.api.scheduling import TopologySpreads
from slipstream_operator.api.volumes import Mounts, Volume

RESERVED_LABELS: Final = (names.MANAGED_BY_LABEL, names.NAME_LABEL, names.COMPONENT_LABEL)
"""Labels that the operator sets on pods, besides those of its own domain."""
RESERVED_ANNOTATIONS: Final = ("prometheus.io/scrape", "prometheus.io/port", "prometheus.io/path")
"""Annotations that the operator sets on pods."""
RESERVED_DOMAIN: Final = f"{names.GROUP}/"
GROUPS_DOMAIN: Final = "leaderworkerset.sigs.k8s.io/"
"""Domain of the labels and annotations that LeaderWorkerSet sets on the pods of a group."""
FREE_ANNOTATIONS: Final = (f"{GROUPS_DOMAIN}exclusive-topology",)
"""Annotations of a reserved domain that users can set."""
_CONFINEMENT: Final = (
    "container.apparmor.security.beta.kubernetes.io/",
    "container.seccomp.security.alpha.kubernetes.io/",
    "seccomp.security.alpha.kubernetes.io/",
)
"""Annotations that could weaken the pods' security."""
RESERVED_LABEL_PREFIXES: Final = (RESERVED_DOMAIN, GROUPS_DOMAIN)
RESERVED_ANNOTATION_PREFIXES: Final = (RESERVED_DOMAIN, GROUPS_DOMAIN, *_CONFINEMENT)


def _without(
    reserved: tuple[str, ...], *, prefixes: tuple[str, ...], free: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return the rule against keys that the operator sets."""
    begins = " || ".join(f"key.startsWith('{prefix}')" for prefix in prefixes)
    clash = f"key in {list(reserved)} || {begins}"
    if free:
        clash = f"!(key in {list(free)}) && ({clash})"
    return rules(
        rule(
            f"!self.exists(key, {clash})",
            message_expression=(
                f"'\"' + self.filter(key, {clash})[0] + '\" is set by the operator. Leave it out.'"
            ),
        )
    )


PodLabels = Annotated[
    dict[LabelKey, LabelValue],
    Field(
        max_length=64,
        json_schema_extra=_without(RESERVED_LABELS, prefixes=RESERVED_LABEL_PREFIXES),
    ),
]
PodAnnotations = Annotated[
    dict[LabelKey, Annotated[str, Field(max_length=4096)]],
    Field(
        max_length=64,
        json_schema_extra=_without(
            RESERVED_ANNOTATIONS, prefixes=RESERVED_ANNOTATION_PREFIXES, free=FREE_ANNOTATIONS
        ),
    ),
]
Volumes = Annotated[list[Volume], Field(max_length=16, json_schema_extra=list_map("name"))]
DECLARED: Final = rule(
    "!has(self.volumeMounts) || self.volumeMounts.all(mount, has(self.volumes) && "
    "self.volumes.exists(volume, volume.name == mount.name))",
    message="a name is not in spec.template.volumes. Add a volume with this name, or correct the name.",
    field_path=".volumeMounts",
)
"""Rule against mounts without a volume."""


class Template(ApiModel):
    """Overrides of the engine pods. They win over all other sources."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            DECLARED,
            rule(
                "!has(self.initContainers) || self.initContainers.all(container, "
                "!has(container.volumeMounts) || container.volumeMounts.all(mount, has(self.volumes) && "
                "self.volumes.exists(volume, volume.name == mount.name)))",
                message="the name of a mount is not in spec.template.volumes. Add a volume with this name, or "
                "correct the name.",
                field_path=".initContainers",
            ),
        )
    )
    labels: PodLabels | None = Field(default=None, description="Additional labels of the pods.")
    annotations: PodAnnotations | None = Field(
        default=None, description="Additional annotations of the pods."
    )
    node_selector: pod.Labels | None = Field(
        default=None, description="Labels of the nodes that the pods can run on."
    )
    tolerations: pod.Tolerations | None = Field(
        default=None, description="Taints that the pods tolerate."
    )
    affinity: Affinity | None = Field(
        default=None, description="Node affinity, pod affinity and pod anti-affinity of the pods."
    )
    topology_spread_constraints: TopologySpreads | None = Field(
        default=None,
        description="Constraints on the spread of the pods over the cluster. An empty list means no spread. "
        "Default on accelerators: over zones if possible, on nodes with other engines. Default on "
        "cpu: over nodes if possible.",
    )
    scheduler_name: ShortText | None = Field(
        default=None, description="Scheduler of the pods. Default: the default scheduler."
    )
    image_pull_secrets: pod.PullSecrets | None = Field(
        default=None, description="Secrets for the registries of images and image volumes."
    )
    supplemental_groups: (
        Annotated[list[Annotated[int, Field(ge=1, le=(1 << 31) - 1)]], Field(max_length=16)] | None
    ) = Field(
        default=None,
        description="Groups of the processes besides 65532, such as the group of a device.",
    )
    init_containers: InitContainers | None = Field(
        default=None,
        description="Containers that run one after another before the engine starts.",
    )
    env: Variables | None = Field(
        default=None, description="Environment variables of the engine container."
    )
    volumes: Volumes | None = Field(default=None, description="Additional volumes of the pods.")
    volume_mounts: Mounts | None = Field(
        default=None, description="Mounts of these volumes in the engine container."
    )
    service_account_name: ShortText | None = Field(
        default=None, description="ServiceAccount of the pods. Its token is not mounted."
    )
    priority_class_name: ShortText | None = Field(
        default=None, description="PriorityClass of the pods."
    )
    runtime_class_name: ShortText | None = Field(
        default=None, description="RuntimeClass of the pods."
    )
    image: Annotated[str, Field(min_length=1, max_length=512)] | None = Field(
        default=None, description="Image of the engine container. Default: from the ServingProfile."
    )
