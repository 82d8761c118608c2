"""Bounds of the replica count."""

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from slipstream_operator.api.base import ApiModel, Duration, rule, rules


class ScalingSpec(ApiModel):
    """Bounds of the replica count, which follows load and objectives."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.maxReplicas >= self.minReplicas",
                message_expression=(
                    "'maxReplicas (%d) is less than minReplicas (%d). Raise maxReplicas or lower "
                    "minReplicas.'.format([self.maxReplicas, self.minReplicas])"
                ),
                field_path=".maxReplicas",
            ),
            rule(
                "(self.minReplicas == 0) == has(self.idleAfter)",
                message="minReplicas: 0 and idleAfter need each other. Set both, such as {minReplicas: 0, "
                "idleAfter: 15m, maxReplicas: 4}, or neither.",
                field_path=".minReplicas",
            ),
        )
    )
    min_replicas: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=1,
        description="Minimum replicas. With 0 the engines stop after idleAfter, and the router holds the next "
        "request until a replica is ready. Default: 1.",
    )
    max_replicas: Annotated[int, Field(ge=1, le=1000)] = Field(description="Maximum replicas.")
    idle_after: Duration | None = Field(
        default=None,
        description="Time without requests after which the engines stop, with minReplicas: 0.",
    )
    paused: bool = Field(
        default=False, description="Whether to keep the current replica count. Default: false."
    )
    mode: Literal["Auto", "Recommend"] = Field(
        default="Auto",
        description="Auto changes the replica count. Recommend only shows decisions in status. Default: Auto.",
    )
