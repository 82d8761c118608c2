"""Typed parts of core/v1 that several kinds share."""

from typing import Annotated, Literal

from pydantic import Field

from slipstream_operator.api.base import (
    ApiModel,
    LabelKey,
    LabelValue,
    Quantity,
    ShortText,
    list_map,
)

ResourceName = Annotated[str, Field(max_length=253)]
Resource = Annotated[dict[ResourceName, Quantity], Field(max_length=16)]
Labels = Annotated[dict[LabelKey, LabelValue], Field(max_length=64)]


class Resources(ApiModel):
    """Kubernetes resources of one container."""

    requests: Resource | None = Field(
        default=None, description="Amounts that the scheduler reserves."
    )
    limits: Resource | None = Field(
        default=None, description="Amounts that the container can't exceed."
    )


class LabelRequirement(ApiModel):
    """Requirement on a label."""

    key: LabelKey = Field(description="Label key.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(
        description="Relation of the label to the values."
    )
    values: Annotated[list[LabelValue], Field(max_length=32)] | None = Field(
        default=None, description="Values for In and NotIn."
    )


class LabelSelector(ApiModel):
    """Selector of objects by labels. An empty selector matches all objects."""

    match_labels: Labels | None = Field(
        default=None, description="Labels and values that must match."
    )
    match_expressions: Annotated[list[LabelRequirement], Field(max_length=16)] | None = Field(
        default=None, description="Requirements. All of them must match."
    )


class Toleration(ApiModel):
    """Taint that the pods tolerate."""

    key: LabelKey | None = Field(
        default=None, description="Taint key. An empty key matches all taints."
    )
    operator: Literal["Exists", "Equal"] | None = Field(default=None, description="Default: Equal.")
    value: LabelValue | None = Field(default=None, description="Taint value, for operator Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Taint effect. An empty effect matches all effects."
    )
    toleration_seconds: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Seconds for which a NoExecute taint is tolerated."
    )


class KeySelector(ApiModel):
    """Key of a Secret or ConfigMap in the same namespace."""

    name: ShortText = Field(description="Name of the object.")
    key: ShortText = Field(description="Key in the object.")
    optional: bool | None = Field(
        default=None, description="Whether the container starts if the key is missing."
    )


class EnvSource(ApiModel):
    """Source of an environment variable's value."""

    secret_key_ref: KeySelector | None = Field(default=None, description="Key of a Secret.")
    config_map_key_ref: KeySelector | None = Field(default=None, description="Key of a ConfigMap.")


class EnvVar(ApiModel):
    """Environment variable of a container."""

    name: ShortText = Field(description="Name of the variable.")
    value: Annotated[str, Field(max_length=4096)] | None = Field(
        default=None, description="Value of the variable."
    )
    value_from: EnvSource | None = Field(default=None, description="Source of the value.")


class PullSecret(ApiModel):
    """Secret in the same namespace with the credentials of a registry."""

    name: ShortText = Field(
        description="Name of the Secret, of type kubernetes.io/dockerconfigjson."
    )


PullSecrets = Annotated[list[PullSecret], Field(max_length=8, json_schema_extra=list_map("name"))]
Tolerations = Annotated[list[Toleration], Field(max_length=32)]
