"""Configuration of a namespace's router: the content of its ConfigMap.

The router refuses an invalid document, and keeps the one before.
"""

from collections.abc import Iterable
from typing import Annotated, Final, Literal

import pydantic
from pydantic import Field

from slipstream_runtime.part import Part
from slipstream_runtime.web import asgi, body, tenants

Name = Annotated[str, Field(min_length=1, max_length=253)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]

BODY_MEMORY: Final = 128 * 1024 * 1024
"""Bytes. A body with media is there twice, once parsed, so all take at most half of a router's default memory."""
ANSWER_SECONDS: Final = 3600.0
"""Seconds for an answer, after the longest wait for a slot, of a service without a timeout."""


class Revision(Part):
    """One revision of a service, named for its headless Service."""

    name: Name
    weight: int = Field(ge=0, le=100)
    """Percent of the service's requests."""
    token: Name | None = None
    """Entry of the engines' token in `Config.engine_tokens`; None if they accept the router's own token."""


class EngineTokens(Part):
    """Secret with the tokens that engines accept from the router."""

    secret: Name
    owner: Name
    """Uid of the object that must own the Secret. Another owner's Secret is not used."""


class ServiceLimits(Part):
    """Limits of a service that the router enforces; engines enforce those of one replica."""

    concurrency: int | None = Field(default=None, ge=1)
    """Requests in flight per replica; further requests are queued. None: the batch size that the replica reports."""
    queue: int = Field(default=1024, ge=0)
    """Requests in the router's queue, which waits for a free or a starting replica."""
    timeout: Seconds | None = None
    """Seconds from the request's arrival to the last byte of its answer; None: ANSWER_SECONDS after `hold`."""
    hold: Seconds = 300.0
    """Seconds that a request waits for a slot."""
    drain: Seconds | None = None
    """Seconds for running requests to finish when the router stops; None: the option --grace."""
    max_output_tokens: int | None = Field(default=None, ge=1)
    max_text: int | None = Field(default=None, ge=1)
    """Bytes of a chat's text, which follow from the context; None: the context is not known."""
    queue_size: int = Field(default=64 * 1024 * 1024, ge=0)
    """Bytes of all queued request bodies."""
    connect_timeout: Seconds = 3.0
    """Seconds for an engine to accept a connection."""
    head_timeout: Seconds | None = None
    """Seconds until the answer's headers, which an answer without streaming sends at its end; None: no limit but
    `timeout`."""
    idle_timeout: Seconds = 120.0
    """Seconds between two chunks of a stream, and for a client to read one."""
    body_timeout: Seconds | None = None
    """Seconds for a client to send its body; None: the default of the router."""
    upload_size: int = Field(default=body.UPLOAD_LIMIT, ge=1)
    """Bytes of a body with a file."""

    @property
    def seconds(self) -> float:
        """Return the seconds from the request's arrival to the last byte of its answer."""
        return self.hold + ANSWER_SECONDS if self.timeout is None else self.timeout


class Responses(Part):
    """The exact response cache of a service."""

    ttl: Seconds
    size: int = Field(ge=1)
    """Bytes."""


class Cors(Part):
    """Cross-origin requests that browsers may send to a service."""

    allow_origins: tuple[str, ...]
    """Origins such as `https://chat.example.com`, with `*.` for any subdomain, or `*` for all."""


class Service(Part):
    """One InferenceService."""

    name: Name
    model: Name
    """Model name that clients use; `adapters` are further names."""
    adapters: tuple[Name, ...] = ()
    revisions: tuple[Revision, ...] = ()
    """All revisions, the newest one last."""
    strategy: Literal["Prefix", "LeastLoad"] = "Prefix"
    limits: ServiceLimits = ServiceLimits()
    keys: bool = False
    """Whether clients need an API key."""
    key_secret: Name | None = None
    """Secret with the keys, which the router watches; None: a folder that is named for the service."""
    prefix_scope: tenants.Scope = "Tenant"
    """Requests that share cached prefixes, if clients need an API key."""
    responses: Responses | None = None
    cors: Cors | None = None
    activation: Name | None = None
    """Name of the Lease that the router renews while requests wait at zero replicas."""
    stopped: bool = False
    """Whether the service has spec.replicas: 0. Without a replica, its requests are refused and not held."""
    foreign: tuple[Name, ...] = ()
    """Pods with the labels of the service's engines that are none of them. They get no requests."""
    block_tokens: int = Field(default=16, ge=1)
    kv_tokens: int | None = Field(default=None, ge=1)
    """Capacity of one engine's prefix cache, as measured; None if not known."""


class Share(Part):
    """One backend of a weighted route."""

    service: Name
    weight: int = Field(ge=0, le=1_000_000)


class Accept(Part):
    """Conditions on which a stage of a cascade takes a request, and keeps its own answer."""

    min_confidence: float | None = Field(default=None, ge=0, le=1)
    """Least geometric mean of the answer's token probabilities."""
    max_prompt_tokens: int | None = Field(default=None, ge=1)
    """Longer prompts skip the stage."""
    tools: bool = True
    """Whether it takes requests with tools."""
    structured: bool = True
    """Whether it takes requests with a JSON schema or another grammar."""


class Stage(Part):
    """One stage of a cascade, cheapest first; the last accepts every request."""

    service: Name
    accept: Accept = Accept()


class SecretEntry(Part):
    """Entry of a Secret, which the router watches."""

    secret: Name
    entry: Name


class Retrieve(Part):
    """Search service whose passages are added to chats."""

    url: Annotated[str, Field(min_length=1, max_length=2048)]
    """URL that answers in the form of OpenAI's `/v1/vector_stores/{id}/search`."""
    top_k: int = Field(default=4, ge=1, le=50)
    """Passages that are requested."""
    budget_tokens: int = Field(default=1024, ge=16, le=100_000)
    """Estimated tokens of all passages that are added."""
    timeout: Seconds = 1.0
    """Seconds for the search; then the request goes on without passages."""
    key: SecretEntry | None = None
    """API key of the search service."""


class Condense(Part):
    """Service that writes summaries of long conversations."""

    service: Name
    over_tokens: int = Field(default=4096, ge=64, le=10_000_000)
    """Estimated tokens of a conversation that is not condensed."""
    keep_turns: int = Field(default=4, ge=1, le=1000)
    """Newest turns that stay as they are."""
    summary_tokens: int = Field(default=256, ge=16, le=4096)
    """Output tokens of one summary."""
    timeout: Seconds = 10.0
    """Seconds for the summaries; then the request goes on unchanged."""


class Route(Part):
    """One InferenceRoute: a public model name over several services."""

    name: Name
    model: Name
    backends: tuple[Share, ...] = ()
    stages: tuple[Stage, ...] = ()
    max_escalation: float = Field(default=1.0, ge=0, le=1)
    """Share of requests that may be answered twice; beyond it the first answer is kept."""
    retrieve: Retrieve | None = None
    condense: Condense | None = None

    @pydantic.model_validator(mode="after")
    def _one_kind(self) -> "Route":
        if bool(self.backends) == bool(self.stages):
            raise ValueError("a route has either backends or stages")
        return self


class Bodies(Part):
    """Limits of requests' bodies, in bytes."""

    size: int = Field(default=asgi.MEDIA_LIMIT, ge=1, le=asgi.MEDIA_LIMIT)
    """Limit of one body with media."""
    memory: int = Field(default=BODY_MEMORY, ge=1)
    """Limit of all bodies in one router."""


class Entries(Part):
    """Part of the services and routes of a namespace, in a ConfigMap of its own."""

    services: tuple[Service, ...] = ()
    routes: tuple[Route, ...] = ()


class Config(Part):
    """All services and routes of a namespace."""

    namespace: Name
    services: tuple[Service, ...] = ()
    routes: tuple[Route, ...] = ()
    bodies: Bodies = Bodies()
    caches: int | None = Field(default=None, ge=0)
    """Bytes of all response caches together; None: no limit but that of each service."""
    engine_tokens: EngineTokens | None = None
    parts: tuple[Name, ...] = ()
    """ConfigMaps with further services and routes. A part never changes: other content has another name."""

    def with_entries(self, found: Iterable[Entries]) -> "Config":
        """Return the configuration with the services and routes of its parts."""
        parts = tuple(found)
        return self.model_copy(
            update={
                "services": (*self.services, *(s for part in parts for s in part.services)),
                "routes": (*self.routes, *(r for part in parts for r in part.routes)),
                "parts": (),
            }
        )

    @property
    def key_secrets(self) -> frozenset[str]:
        """Return the names of all Secrets with API keys."""
        return frozenset(service.key_secret for service in self.services if service.key_secret)

    @property
    def watched_secrets(self) -> frozenset[str]:
        """Return the names of all Secrets with API keys or tokens, of clients and of search services."""
        tokens = {self.engine_tokens.secret} if self.engine_tokens else set()
        hooks = {r.retrieve.key.secret for r in self.routes if r.retrieve and r.retrieve.key}
        return self.key_secrets | tokens | hooks
