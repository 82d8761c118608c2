"""spec.tls of a ServingProfile: certificates of routers and engines."""

from typing import Annotated, Literal

from pydantic import Field

from slipstream_operator.api.base import ApiModel


class ClientsTls(ApiModel):
    """TLS of the clients' connections."""

    secret: Annotated[str, Field(min_length=1, max_length=253)] = Field(
        description="Secret of type kubernetes.io/tls in each namespace, for the names <service>.<namespace>.svc. "
        "Routers read it again when it changes, and so do engines with routing.mode: Direct."
    )
    http: Literal["Refused", "Allowed"] = Field(
        default="Refused",
        description="Plain HTTP of routers beside HTTPS, as while clients move to it. Default: Refused.",
    )


class EnginesTls(ApiModel):
    """TLS between routers and engines."""

    secret: Annotated[str, Field(min_length=1, max_length=253)] = Field(
        description="Secret of type kubernetes.io/tls in each namespace, for the name "
        "slipstream-engines.<namespace>.svc. Its entry ca.crt is the authority that routers trust. Engines and "
        "routers read it again when it changes."
    )


class TlsSpec(ApiModel):
    """Certificates of routers and engines. Without them, both serve plain HTTP."""

    clients: ClientsTls | None = Field(
        default=None, description="TLS of the clients' connections. Default: plain HTTP."
    )
    engines: EnginesTls | None = Field(
        default=None,
        description="TLS between routers and engines. Default: plain HTTP. It doesn't work with routing.mode: Gateway.",
    )
