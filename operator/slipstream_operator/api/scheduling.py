"""Typed core/v1 TopologySpreadConstraint."""

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from slipstream_operator.api.affinity import LabelKeys, TopologyKey
from slipstream_operator.api.base import ApiModel, list_map, rule, rules
from slipstream_operator.api.pod import LabelSelector


class TopologySpread(ApiModel):
    """Constraint that spreads pods over topology domains."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.minDomains) || self.whenUnsatisfiable == 'DoNotSchedule'",
                message="minDomains needs whenUnsatisfiable: DoNotSchedule. Leave out one of them.",
                field_path=".minDomains",
            )
        )
    )

    max_skew: Annotated[int, Field(ge=1, le=1000)] = Field(
        description="Maximum difference between the numbers of pods in two domains."
    )
    topology_key: TopologyKey = Field(
        description="Node label whose values are the domains, such as topology.kubernetes.io/zone."
    )
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"] = Field(
        description="Whether a pod stays pending if it would exceed maxSkew (DoNotSchedule), or is scheduled "
        "anyway (ScheduleAnyway)."
    )
    label_selector: LabelSelector | None = Field(
        default=None,
        description="Pods that are counted. Default: the engine pods of this revision.",
    )
    match_label_keys: LabelKeys | None = Field(
        default=None,
        description="Keys of labels whose values must equal those of the incoming pod.",
    )
    min_domains: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None, description="Minimum number of domains, with DoNotSchedule."
    )
    node_affinity_policy: Literal["Honor", "Ignore"] | None = Field(
        default=None,
        description="Whether only nodes that match the pods' node affinity and selector are "
        "counted. Default: Honor.",
    )
    node_taints_policy: Literal["Honor", "Ignore"] | None = Field(
        default=None,
        description="Whether only nodes whose taints the pods tolerate are counted. Default: Ignore.",
    )


TopologySpreads = Annotated[
    list[TopologySpread],
    Field(max_length=8, json_schema_extra=list_map("topologyKey", "whenUnsatisfiable")),
]
