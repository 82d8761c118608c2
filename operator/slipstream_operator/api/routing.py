"""Routing of requests to a service, and the keys that they need."""

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from slipstream_operator.api.base import Model, ShortText, rule, rules


class SecretName(Model):
    """A Secret in the same namespace."""

    name: Annotated[str, Field(min_length=1, max_length=253, description="Name of the Secret.")]


class GatewayName(Model):
    """A Gateway of the Gateway API that knows inference pools."""

    name: ShortText = Field(description="Name of the Gateway.")
    namespace: Annotated[str, Field(min_length=1, max_length=63)] | None = Field(
        default=None, description="Where it is. Default: the service's namespace."
    )


class RoutingSpec(Model):
    """Without it, the namespace's router passes requests on, whoever sends them."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.gateway) == (has(self.mode) && self.mode == 'Gateway')",
                message="mode: Gateway and gateway need each other: give both, such as "
                "{mode: Gateway, gateway: {name: inference}}, or neither",
                field_path=".gateway",
            ),
            rule(
                "!has(self.strategy) || !has(self.mode) || self.mode == 'Router'",
                message_expression=(
                    "'strategy (' + self.strategy + ') needs mode: Router, whose router picks the replica: "
                    "leave out strategy, or mode'"
                ),
                field_path=".strategy",
            ),
        )
    )
    mode: Literal["Router", "Gateway", "Direct"] | None = Field(
        default=None,
        description="Router (default): the namespace's own router, which Slipstream runs. Gateway: an inference "
        "gateway of the Gateway API. Direct: the Service selects the replicas. A change moves the traffic without "
        "losing requests; engines restart for it, one revision beside the other.",
    )
    gateway: GatewayName | None = Field(
        default=None, description="The Gateway to attach to, with mode: Gateway."
    )
    strategy: Literal["Prefix", "LeastLoad"] | None = Field(
        default=None,
        description="Prefix (default): the replica that holds most of the prompt's beginning in its cache, unless it "
        "is busy. LeastLoad: the one with least to do.",
    )
    api_keys: SecretName | None = Field(
        default=None,
        description="Requests need a key of this Secret as `Authorization: Bearer`. Each entry is named for a tenant "
        "and holds its keys, one a line, or with mode: Router one document {sha256, tenant, models, priority, "
        "tokensPerMinute, expires}. A changed Secret needs no restart; without it nobody is let in.",
    )
