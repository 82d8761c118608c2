"""spec.template: what users may override in the engine pods."""

from typing import Annotated

import pydantic
from pydantic import Field

from slipstream_operator.api import pod
from slipstream_operator.api.affinity import Affinity
from slipstream_operator.api.base import LabelKey, Model, ShortText, list_map, rule, rules
from slipstream_operator.api.volumes import Mount, Volume


class Template(Model):
    """Overrides of the engine pods, merged last."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.volumeMounts) || self.volumeMounts.all(mount, has(self.volumes) && "
                "self.volumes.exists(volume, volume.name == mount.name))",
                message="a name is not in spec.template.volumes: add a volume of that name, or correct it",
                field_path=".volumeMounts",
            )
        )
    )
    labels: pod.Labels | None = Field(default=None, description="Labels added to the pods.")
    annotations: (
        Annotated[dict[LabelKey, Annotated[str, Field(max_length=4096)]], Field(max_length=64)]
        | None
    ) = Field(default=None, description="Annotations added to the pods.")
    node_selector: pod.Labels | None = Field(
        default=None, description="Labels that nodes must have."
    )
    tolerations: pod.Tolerations | None = Field(
        default=None, description="Taints that the pods bear."
    )
    affinity: Affinity | None = Field(
        default=None, description="Where the pods run: near which nodes and pods, or not."
    )
    env: (
        Annotated[list[pod.EnvVar], Field(max_length=64, json_schema_extra=list_map("name"))] | None
    ) = Field(default=None, description="Environment variables of the engine container.")
    volumes: (
        Annotated[list[Volume], Field(max_length=16, json_schema_extra=list_map("name"))] | None
    ) = Field(default=None, description="Volumes added to the pods.")
    volume_mounts: (
        Annotated[list[Mount], Field(max_length=16, json_schema_extra=list_map("mountPath"))] | None
    ) = Field(default=None, description="Where the engine container sees them.")
    service_account_name: ShortText | None = Field(
        default=None, description="ServiceAccount of the pods; its token is not mounted."
    )
    priority_class_name: ShortText | None = Field(
        default=None, description="PriorityClass of the pods."
    )
    runtime_class_name: ShortText | None = Field(
        default=None, description="RuntimeClass of the pods."
    )
    image: Annotated[str, Field(min_length=1, max_length=512)] | None = Field(
        default=None, description="Image of the engine container. Default: the profile's."
    )
