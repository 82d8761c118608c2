"""core/v1 Affinity, typed."""

from typing import Annotated, Literal

from pydantic import Field

from slipstream_operator.api.base import LabelKey, LabelValue, Model, ShortText
from slipstream_operator.api.pod import LabelSelector

Weight = Annotated[int, Field(ge=1, le=100)]
TopologyKey = Annotated[str, Field(min_length=1, max_length=317)]
LabelKeys = Annotated[list[LabelKey], Field(max_length=16)]


class NodeRequirement(Model):
    """One requirement on a node's labels or fields."""

    key: LabelKey = Field(description="Label or field.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"] = Field(
        description="How values are compared."
    )
    values: Annotated[list[LabelValue], Field(max_length=64)] | None = Field(
        default=None, description="Values for In and NotIn; one integer for Gt and Lt."
    )


NodeRequirements = Annotated[list[NodeRequirement], Field(max_length=16)]


class NodeTerm(Model):
    """Requirements on a node that must all hold."""

    match_expressions: NodeRequirements | None = Field(
        default=None, description="Requirements on its labels."
    )
    match_fields: NodeRequirements | None = Field(
        default=None, description="Requirements on its fields, such as metadata.name."
    )


class NodeSelector(Model):
    """Terms of which one must hold."""

    node_selector_terms: Annotated[list[NodeTerm], Field(min_length=1, max_length=16)] = Field(
        description="Terms of which one must hold."
    )


class PreferredNode(Model):
    """A preference for nodes."""

    weight: Weight = Field(description="How much it counts, 1 to 100.")
    preference: NodeTerm = Field(description="The nodes that are preferred.")


class NodeAffinity(Model):
    """Rules about nodes."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = Field(
        default=None, description="Nodes that the pods must run on."
    )
    preferred_during_scheduling_ignored_during_execution: (
        Annotated[list[PreferredNode], Field(max_length=16)] | None
    ) = Field(default=None, description="Nodes that are preferred.")


class PodTerm(Model):
    """Pods that are meant, and how near counts as near."""

    label_selector: LabelSelector | None = Field(
        default=None, description="Labels of the pods that are meant."
    )
    topology_key: TopologyKey = Field(
        description="Node label whose value says what is near, such as kubernetes.io/hostname."
    )
    namespaces: Annotated[list[ShortText], Field(max_length=16)] | None = Field(
        default=None, description="Namespaces of those pods. Default: this one."
    )
    namespace_selector: LabelSelector | None = Field(
        default=None, description="Namespaces of those pods, by label."
    )
    match_label_keys: LabelKeys | None = Field(
        default=None, description="Labels in which those pods equal this one."
    )
    mismatch_label_keys: LabelKeys | None = Field(
        default=None, description="Labels in which those pods differ from this one."
    )


class PreferredPods(Model):
    """A preference for being near, or not near, some pods."""

    weight: Weight = Field(description="How much it counts, 1 to 100.")
    pod_affinity_term: PodTerm = Field(description="The pods that are meant.")


class PodAffinity(Model):
    """Near, or not near, which pods."""

    required_during_scheduling_ignored_during_execution: (
        Annotated[list[PodTerm], Field(max_length=16)] | None
    ) = Field(default=None, description="What must hold.")
    preferred_during_scheduling_ignored_during_execution: (
        Annotated[list[PreferredPods], Field(max_length=16)] | None
    ) = Field(default=None, description="What is preferred.")


class Affinity(Model):
    """Placement of the pods."""

    node_affinity: NodeAffinity | None = Field(default=None, description="Which nodes.")
    pod_affinity: PodAffinity | None = Field(default=None, description="Near which pods.")
    pod_anti_affinity: PodAffinity | None = Field(default=None, description="Not near which pods.")
