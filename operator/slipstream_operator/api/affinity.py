"""Typed core/v1 Affinity."""

from typing import Annotated, Literal

from pydantic import Field

from slipstream_operator.api.base import ApiModel, LabelKey, LabelValue, ShortText
from slipstream_operator.api.pod import LabelSelector

Weight = Annotated[int, Field(ge=1, le=100)]
TopologyKey = Annotated[str, Field(min_length=1, max_length=317)]
LabelKeys = Annotated[list[LabelKey], Field(max_length=16)]


class NodeRequirement(ApiModel):
    """Requirement on a label or field of a node."""

    key: LabelKey = Field(description="Label or field.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"] = Field(
        description="Relation of the label or field to the values."
    )
    values: Annotated[list[LabelValue], Field(max_length=64)] | None = Field(
        default=None, description="Values for In and NotIn, or one integer for Gt and Lt."
    )


NodeRequirements = Annotated[list[NodeRequirement], Field(max_length=16)]


class NodeTerm(ApiModel):
    """Requirements on a node. All of them must match."""

    match_expressions: NodeRequirements | None = Field(
        default=None, description="Requirements on labels."
    )
    match_fields: NodeRequirements | None = Field(
        default=None, description="Requirements on fields, such as metadata.name."
    )


class NodeSelector(ApiModel):
    """Terms of which one must hold."""

    node_selector_terms: Annotated[list[NodeTerm], Field(min_length=1, max_length=16)] = Field(
        description="Terms. At least one of them must match."
    )


class PreferredNode(ApiModel):
    """Preference for nodes."""

    weight: Weight = Field(description="Weight of the preference, 1 to 100.")
    preference: NodeTerm = Field(description="Preferred nodes.")


class NodeAffinity(ApiModel):
    """Affinity to nodes."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = Field(
        default=None, description="Nodes that the pods must run on."
    )
    preferred_during_scheduling_ignored_during_execution: (
        Annotated[list[PreferredNode], Field(max_length=16)] | None
    ) = Field(default=None, description="Preferred nodes.")


class PodTerm(ApiModel):
    """Selector of pods, and the topology domain that counts as near."""

    label_selector: LabelSelector | None = Field(default=None, description="Labels of the pods.")
    topology_key: TopologyKey = Field(
        description="Node label whose values are the domains, such as kubernetes.io/hostname."
    )
    namespaces: Annotated[list[ShortText], Field(max_length=16)] | None = Field(
        default=None, description="Namespaces of the pods. Default: this namespace."
    )
    namespace_selector: LabelSelector | None = Field(
        default=None, description="Labels of the namespaces of the pods."
    )
    match_label_keys: LabelKeys | None = Field(
        default=None,
        description="Keys of labels whose values must equal those of the incoming pod.",
    )
    mismatch_label_keys: LabelKeys | None = Field(
        default=None,
        description="Keys of labels whose values must differ from those of the incoming pod.",
    )


class PreferredPods(ApiModel):
    """Preference for a domain with, or without, certain pods."""

    weight: Weight = Field(description="Weight of the preference, 1 to 100.")
    pod_affinity_term: PodTerm = Field(description="Selector of the pods.")


class PodAffinity(ApiModel):
    """Affinity or anti-affinity to pods."""

    required_during_scheduling_ignored_during_execution: (
        Annotated[list[PodTerm], Field(max_length=16)] | None
    ) = Field(default=None, description="Terms that must match.")
    preferred_during_scheduling_ignored_during_execution: (
        Annotated[list[PreferredPods], Field(max_length=16)] | None
    ) = Field(default=None, description="Preferred terms.")


class Affinity(ApiModel):
    """Affinity of the pods."""

    node_affinity: NodeAffinity | None = Field(default=None, description="Affinity to nodes.")
    pod_affinity: PodAffinity | None = Field(default=None, description="Affinity to pods.")
    pod_anti_affinity: PodAffinity | None = Field(
        default=None, description="Anti-affinity to pods."
    )
