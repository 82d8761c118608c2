"""How requests reach a service, and who may send them."""

from typing import Annotated, Literal

from pydantic import Field

from slipstream_operator.api.base import Model


class SecretName(Model):
    """A Secret in the same namespace."""

    name: Annotated[str, Field(min_length=1, max_length=253, description="Name of the Secret.")]


class RoutingSpec(Model):
    """Without it, the replicas answer whoever reaches them."""

    mode: Literal["Direct"] | None = Field(
        default=None, description="Direct (default): the Service selects the replicas."
    )
    api_keys: SecretName | None = Field(
        default=None,
        description="Requests need a key of this Secret as `Authorization: Bearer`. Each entry is named for a tenant "
        "and holds its keys, one a line. A changed Secret needs no restart; without it nobody is let in.",
    )
