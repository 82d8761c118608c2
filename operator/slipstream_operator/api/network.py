"""Network of engines in a ServingProfile."""

import ipaddress
from typing import Annotated, Literal

import pydantic
from pydantic import Field

from slipstream_operator.api import pod
from slipstream_operator.api.base import ApiModel, rule, rules


def _cidr(text: str) -> str:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f'"{text}" is no range of addresses. Use one such as 10.20.0.0/16.'
        ) from None
    if "/" not in text:
        raise ValueError(f'"{text}" has no prefix length. Use one such as 10.20.0.0/16.')
    return text


Cidr = Annotated[
    str,
    pydantic.AfterValidator(_cidr),
    Field(
        max_length=64,
        json_schema_extra=rules(
            rule(
                "isCIDR(self)",
                message_expression=(
                    "'\"' + self + '\" is no range of addresses. Use one such as 10.20.0.0/16.'"
                ),
            )
        ),
    ),
]
Port = Annotated[int, Field(ge=1, le=65535)]


class Destination(ApiModel):
    """Addresses or namespaces that engines can open connections to."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.cidr) != has(self.namespaceSelector)",
                message="exactly one of cidr and namespaceSelector is needed.",
            )
        )
    )

    cidr: Cidr | None = Field(
        default=None,
        description="Range of addresses, such as 10.20.0.0/16. Metadata addresses of clouds in it stay closed, "
        "unless the range is one address.",
    )
    namespace_selector: pod.LabelSelector | None = Field(
        default=None, description="Namespaces whose pods engines can reach."
    )
    ports: Annotated[list[Port], Field(min_length=1, max_length=32)] | None = Field(
        default=None, description="TCP ports. Default: 443."
    )


class Egress(ApiModel):
    """Connections that engines and downloads can open, besides DNS."""

    internet: Literal["HTTPS", "None"] | None = Field(
        default=None,
        description="HTTPS: port 443 of all public addresses, for the hub and for buckets. None: no public address. "
        "Default: HTTPS.",
    )
    allow: Annotated[list[Destination], Field(max_length=64)] | None = Field(
        default=None,
        description="Further destinations, such as a mirror of the hub or a bucket inside the cluster.",
    )


class NetworkSpec(ApiModel):
    """NetworkPolicies of engines. A cluster enforces them only if its network implements NetworkPolicy."""

    egress: Egress | None = Field(
        default=None,
        description="Connections that engines and downloads can open. Default: DNS, and port 443 of public addresses.",
    )
    gateway_namespaces: pod.LabelSelector | None = Field(
        default=None,
        description="Namespaces of the pods of gateways. With routing.mode Gateway, only these reach port 8000 of "
        "engines. Default: all.",
    )
