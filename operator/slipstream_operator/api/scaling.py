"""Replica counts: the bounds of scaling, and the replacement of replicas by a rollout."""

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from slipstream_operator.api.base import Duration, Model, rule, rules


class ScalingSpec(Model):
    """Bounds of the replica count, which follows load and objectives inside them."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.maxReplicas >= self.minReplicas",
                message_expression=(
                    "'maxReplicas (%d) must not be less than minReplicas (%d)'"
                    ".format([self.maxReplicas, self.minReplicas])"
                ),
                field_path=".maxReplicas",
            ),
            rule(
                "(self.minReplicas == 0) == has(self.idleAfter)",
                message="minReplicas: 0 and idleAfter need each other: give both, such as "
                "{minReplicas: 0, idleAfter: 15m, maxReplicas: 4}, or neither",
                field_path=".minReplicas",
            ),
        )
    )
    min_replicas: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=1,
        description="Never fewer than these. 0 stops the engines after idleAfter; the router holds the next request "
        "until one is up. Default: 1.",
    )
    max_replicas: Annotated[int, Field(ge=1, le=1000)] = Field(description="Never more than these.")
    idle_after: Duration | None = Field(
        default=None,
        description="Without a request for this long the engines stop, with minReplicas: 0.",
    )
    paused: bool = Field(default=False, description="Keep the present count. Default: false.")
    mode: Literal["Auto", "Recommend"] = Field(
        default="Auto",
        description="Recommend shows in status what it would do, and does not do it.",
    )


class RolloutSpec(Model):
    """Replacement of the engines after a change."""

    strategy: Literal["Canary", "Recreate"] = Field(
        default="Canary",
        description="Canary starts the new engines beside the old and moves traffic once they are ready (default); "
        "Recreate stops the old first, where no accelerator is spare.",
    )
