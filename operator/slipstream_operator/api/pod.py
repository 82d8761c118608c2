"""Parts of core/v1 that several kinds share, typed."""

from typing import Annotated, Literal

from pydantic import Field

from slipstream_operator.api.base import LabelKey, LabelValue, Model, Quantity, ShortText, list_map

ResourceName = Annotated[str, Field(max_length=253)]
Resource = Annotated[dict[ResourceName, Quantity], Field(max_length=16)]
Labels = Annotated[dict[LabelKey, LabelValue], Field(max_length=64)]


class Resources(Model):
    """Kubernetes resources of one container."""

    requests: Resource | None = Field(default=None, description="What the scheduler sets aside.")
    limits: Resource | None = Field(default=None, description="What the container may not exceed.")


class LabelRequirement(Model):
    """One requirement on labels."""

    key: LabelKey = Field(description="Label key.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(
        description="How values are compared."
    )
    values: Annotated[list[LabelValue], Field(max_length=32)] | None = Field(
        default=None, description="Values for In and NotIn."
    )


class LabelSelector(Model):
    """Labels that are wanted; an empty one means all."""

    match_labels: Labels | None = Field(default=None, description="Labels that must be equal.")
    match_expressions: Annotated[list[LabelRequirement], Field(max_length=16)] | None = Field(
        default=None, description="Requirements that must all hold."
    )


class Toleration(Model):
    """A taint that engine pods may run beside."""

    key: LabelKey | None = Field(default=None, description="Taint key; empty matches all.")
    operator: Literal["Exists", "Equal"] | None = Field(default=None, description="Default: Equal.")
    value: LabelValue | None = Field(default=None, description="Taint value, with Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Taint effect; empty matches all."
    )
    toleration_seconds: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="How long a NoExecute taint is borne."
    )


class KeySelector(Model):
    """A key of a Secret or ConfigMap in the same namespace."""

    name: ShortText = Field(description="Name of the object.")
    key: ShortText = Field(description="Key inside it.")
    optional: bool | None = Field(default=None, description="Start without it if it is missing.")


class EnvSource(Model):
    """Source of an environment variable's value."""

    secret_key_ref: KeySelector | None = Field(default=None, description="A key of a Secret.")
    config_map_key_ref: KeySelector | None = Field(
        default=None, description="A key of a ConfigMap."
    )


class EnvVar(Model):
    """An environment variable of the engine container."""

    name: ShortText = Field(description="Name of the variable.")
    value: Annotated[str, Field(max_length=4096)] | None = Field(
        default=None, description="Its value."
    )
    value_from: EnvSource | None = Field(default=None, description="Where the value comes from.")


class PullSecret(Model):
    """A Secret of the namespace that holds a registry's credentials."""

    name: ShortText = Field(
        description="Name of the Secret, of type kubernetes.io/dockerconfigjson."
    )


PullSecrets = Annotated[list[PullSecret], Field(max_length=8, json_schema_extra=list_map("name"))]
Tolerations = Annotated[list[Toleration], Field(max_length=32)]
