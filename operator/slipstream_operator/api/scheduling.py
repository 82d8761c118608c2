"""core/v1 TopologySpreadConstraint, typed."""

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from slipstream_operator.api.affinity import LabelKeys, TopologyKey
from slipstream_operator.api.base import Model, list_map, rule, rules
from slipstream_operator.api.pod import LabelSelector


class TopologySpread(Model):
    """Rule by which pods are spread evenly over parts of the cluster."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.minDomains) || self.whenUnsatisfiable == 'DoNotSchedule'",
                message="minDomains needs whenUnsatisfiable: DoNotSchedule: leave out one of them",
                field_path=".minDomains",
            )
        )
    )

    max_skew: Annotated[int, Field(ge=1, le=1000)] = Field(
        description="The most that two parts may differ in their number of pods."
    )
    topology_key: TopologyKey = Field(
        description="Node label whose values are the parts, such as topology.kubernetes.io/zone."
    )
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"] = Field(
        description="Whether a pod waits for a place that keeps maxSkew, or only prefers one."
    )
    label_selector: LabelSelector | None = Field(
        default=None, description="Pods that are counted. Default: the engines of this revision."
    )
    match_label_keys: LabelKeys | None = Field(
        default=None, description="Labels in which counted pods equal this one."
    )
    min_domains: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None, description="Least number of parts, with DoNotSchedule."
    )
    node_affinity_policy: Literal["Honor", "Ignore"] | None = Field(
        default=None, description="Whether only nodes that the pods select count. Default: Honor."
    )
    node_taints_policy: Literal["Honor", "Ignore"] | None = Field(
        default=None,
        description="Whether only nodes whose taints they bear count. Default: Ignore.",
    )


TopologySpreads = Annotated[
    list[TopologySpread],
    Field(max_length=8, json_schema_extra=list_map("topologyKey", "whenUnsatisfiable")),
]
