"""Routing of requests to a service, and the API keys that requests need."""

from typing import Annotated, Final, Literal

import pydantic
from pydantic import Field

from slipstream_operator.api.base import ApiModel, ShortText, rule, rules


class SecretName(ApiModel):
    """Secret in the same namespace."""

    name: Annotated[str, Field(min_length=1, max_length=253, description="Name of the Secret.")]


class GatewayName(ApiModel):
    """Gateway of the Gateway API that supports inference pools."""

    name: ShortText = Field(description="Name of the Gateway.")
    namespace: Annotated[str, Field(min_length=1, max_length=63)] | None = Field(
        default=None, description="Namespace of the Gateway. Default: the namespace of the service."
    )


_ORIGIN: Final = (
    r"^(\\*|[a-z][a-z0-9+.-]*://(\\*\\.)?([a-z0-9_.-]+|\\[[0-9a-f:.]+\\])(:[0-9]{1,5})?)$"
)
"""An origin as browsers write it, in CEL: lower case, without a path; `*.` stands for subdomains."""

Origin = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        json_schema_extra=rules(
            rule(
                f"self.matches('{_ORIGIN}') && !self.matches('^(http:.*:80|https:.*:443)$')",
                message_expression=(
                    "'\"' + self + '\" is no origin that a browser sends. Use *, https://chat.example.com or "
                    "https://*.example.com: in lower case, without a path and without the usual port.'"
                ),
            )
        ),
    ),
]


class CorsSpec(ApiModel):
    """Cross-origin requests from browsers."""

    allow_origins: Annotated[list[Origin], Field(min_length=1, max_length=32)] = Field(
        description="Origins whose scripts can call the service: * for all, or names such as "
        "https://chat.example.com, with *. for all subdomains. Requests can have any header and need "
        "their API key. Cookies are not used.",
    )


class RoutingSpec(ApiModel):
    """Routing. Default: the router of the namespace, without API keys."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.gateway) == (has(self.mode) && self.mode == 'Gateway')",
                message="gateway and mode: Gateway need each other. Set both, such as {mode: Gateway, gateway: "
                "{name: inference}}, or neither.",
                field_path=".gateway",
            ),
            rule(
                "!has(self.strategy) || !has(self.mode) || self.mode == 'Router'",
                message_expression=(
                    "'strategy (' + self.strategy + ') needs mode: Router, because the router picks the replica. "
                    "Leave out strategy or mode.'"
                ),
                field_path=".strategy",
            ),
            rule(
                "!has(self.cors) || !has(self.mode) || self.mode == 'Router'",
                message="cors needs mode: Router, because the router answers the browser. Leave out cors or mode.",
                field_path=".cors",
            ),
            rule(
                "!has(self.prefixScope) || has(self.apiKeys)",
                message_expression=(
                    "'prefixScope (' + self.prefixScope + ') needs apiKeys, because keys name the tenants. Set "
                    "apiKeys, or leave out prefixScope.'"
                ),
                field_path=".prefixScope",
            ),
        )
    )
    mode: Literal["Router", "Gateway", "Direct"] | None = Field(
        default=None,
        description="Path of requests. Router (default): the router that Slipstream runs in the namespace. "
        "Gateway: an inference gateway of the Gateway API. Direct: the Service selects the replicas. "
        "A change rolls out a new revision of the engines and loses no requests.",
    )
    gateway: GatewayName | None = Field(
        default=None, description="Gateway to attach to, with mode: Gateway."
    )
    strategy: Literal["Prefix", "LeastLoad"] | None = Field(
        default=None,
        description="Choice of the replica. Prefix (default): the replica with the longest cached prefix of the "
        "prompt, unless it is busy. LeastLoad: the replica with the least load.",
    )
    api_keys: SecretName | None = Field(
        default=None,
        description="Secret with the API keys that requests need, as `Authorization: Bearer` or "
        "`x-api-key`. Each entry is named "
        "after a tenant and has one key on each line, or is a document "
        "{sha256, tenant, models, priority, tokensPerMinute, expires}. tokensPerMinute has an effect with "
        "mode: Router alone. A change needs no restart. "
        "While the Secret is missing, all requests are refused.",
    )
    prefix_scope: Literal["Tenant", "Service"] | None = Field(
        default=None,
        description="Requests that share cached prefixes of prompts. Tenant (default): those of one tenant of "
        "apiKeys, so that response times show no tenant the prompts of another. Service: all requests of the "
        "service. Responses of the response cache are never shared between tenants.",
    )
    cors: CorsSpec | None = Field(
        default=None,
        description="Cross-origin requests from browsers. Default: not allowed.",
    )
