"""Routing of a service: by the namespace's router, by an inference gateway, or directly to its replicas."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, Final, Literal

from slipstream_operator import names
from slipstream_operator.api import units
from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.api.servingprofile import RouterSpec, ServingProfileSpec
from slipstream_operator.api.tls import TlsSpec
from slipstream_operator.core import router_memory
from slipstream_operator.core.observed import Manifest
from slipstream_operator.core.times import HOLD_SECONDS, Times
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from slipstream_runtime import contract

Mode = Literal["Router", "Gateway", "Direct"]
_BYTES_PER_TOKEN = 64
"""Bytes of text for each token of the context; text has about 4, and JSON writes a character in up to 12."""
_LEAST_TEXT = 1024 * 1024
"""Bytes of text that a chat may have, whatever the context, for tools and schemas."""
_FILE_SIZE: Final = re.compile("[1-9][0-9]{0,5}")


@dataclasses.dataclass(frozen=True)
class Routing:
    """Resolved routing of a service. `limits` and `responses` have the form of the router's configuration."""

    mode: Mode = "Router"
    strategy: str = "Prefix"
    gateway: tuple[str | None, str] | None = None
    """Namespace (None: the service's) and name of the Gateway."""
    picker_image: str | None = None
    picker_placement: Manifest = dataclasses.field(default_factory=dict)
    """Node selector, tolerations, priority class and pull secrets, as core/v1 names them."""
    picker_account: str | None = None
    """ServiceAccount of the picker's pods; None is its own."""
    assigned_user: bool = False
    """Whether the cluster assigns the user and the groups of the picker's pods."""
    keys: str | None = None
    """Secret with the API keys that the router checks."""
    limits: Manifest = dataclasses.field(default_factory=dict)
    responses: Manifest | None = None
    certificate: str | None = None
    """Secret with the certificate of the engines' API port; None for plain HTTP."""
    secure: bool = False
    """Whether clients use HTTPS."""
    plain: bool = True
    """Whether clients can use plain HTTP."""
    prefix_scope: str | None = None
    """Requests that share cached prefixes, if the object says so; None: those of a tenant."""
    origins: Sequence[str] = ()
    """Origins of browsers' scripts that can call the service."""


def mode(spec: InferenceServiceSpec) -> Mode:
    """Return the routing mode of the object, or the default."""
    return (spec.routing and spec.routing.mode) or "Router"


def engine_keys(spec: InferenceServiceSpec) -> str | None:
    """Return the Secret with the keys that engines accept: the router's token for them, or else the user's Secret."""
    if mode(spec) == "Router":
        return names.ENGINE_TOKENS
    return spec.routing.api_keys.name if spec.routing and spec.routing.api_keys else None


def engine_prefix_scope(spec: InferenceServiceSpec) -> str | None:
    """Return the requests that share cached prefixes in engines that clients reach directly; None behind the router."""
    if mode(spec) == "Router":
        return None
    return (spec.routing and spec.routing.prefix_scope) or "Tenant"


def resolve(
    spec: InferenceServiceSpec,
    profile: ServingProfileSpec,
    name: str,
    *,
    times: Times,
    sequences: int | None,
) -> Routing:
    """Return every decision about routing; PermanentError if the profile can't provide for it.

    `sequences` is the maximum that one replica runs at once, if the object sets it.
    """
    routing, chosen = spec.routing, mode(spec)
    images = profile.images
    if chosen == "Router" and not (images and images.router):
        raise _image_missing(chosen, "router", profile=name)
    if chosen == "Gateway" and not (images and images.picker):
        raise _image_missing(chosen, "picker", profile=name)
    if chosen == "Router":
        _check_memory(spec, profile, name)
    tls = profile.tls or TlsSpec()
    if chosen == "Gateway" and tls.engines is not None:
        raise PermanentError(
            Reason.UNSUPPORTED,
            f"spec.routing.mode: Gateway can't work with tls.engines of ServingProfile {name} because gateways reach "
            "engines by plain HTTP. Use routing.mode: Router, or a profile without tls.engines.",
        )
    clients = tls.clients if chosen != "Gateway" else None
    return Routing(
        mode=chosen,
        strategy=(routing and routing.strategy) or "Prefix",
        gateway=(routing.gateway.namespace, routing.gateway.name)
        if routing and routing.gateway
        else None,
        picker_image=images.picker if images and chosen == "Gateway" else None,
        picker_placement=_placement(profile) if chosen == "Gateway" else {},
        picker_account=profile.router.service_account_name if profile.router else None,
        assigned_user=profile.users == "Assigned",
        keys=routing.api_keys.name if routing and routing.api_keys and chosen == "Router" else None,
        limits=_limits(spec, times, sequences),
        responses=_responses(spec),
        certificate=_certificate(chosen, tls),
        secure=clients is not None,
        plain=clients is None or (chosen == "Router" and clients.http == "Allowed"),
        prefix_scope=routing.prefix_scope if routing else None,
        origins=tuple(routing.cors.allow_origins) if routing and routing.cors else (),
    )


def _certificate(chosen: Mode, tls: TlsSpec) -> str | None:
    """Return the Secret of the engines: the one for routers, or the clients' where those reach the engines."""
    used = tls.clients if chosen == "Direct" else tls.engines
    return used.secret if used else None


def _placement(profile: ServingProfileSpec) -> dict[str, Any]:
    if profile.router is None:
        return {}
    return profile.router.model_dump(
        by_alias=True,
        exclude_none=True,
        include={"node_selector", "tolerations", "priority_class_name", "image_pull_secrets"},
    )


def _image_missing(chosen: Mode, image: str, *, profile: str) -> PermanentError:
    return PermanentError(
        Reason.IMAGE_MISSING,
        f"spec.routing.mode: {chosen} needs an image. Set images.{image} in ServingProfile {profile}, or use "
        "routing.mode: Direct.",
    )


def _file_size(spec: InferenceServiceSpec) -> int | None:
    """Return the size of files of speech that the service sets; vLLM refuses a text that is no number."""
    variables = (spec.template and spec.template.env) or ()
    found = next((one.value for one in variables if one.name == contract.FILE_SIZE_VARIABLE), None)
    return int(found) if found is not None and _FILE_SIZE.fullmatch(found) else None


def _limits(spec: InferenceServiceSpec, times: Times, sequences: int | None) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    limit = spec.limits.concurrency if spec.limits else None
    if (concurrency := sequences if limit is None else limit) is not None:
        limits["concurrency"] = concurrency
    if (megabytes := _file_size(spec)) is not None:
        limits["uploadSize"] = contract.upload_limit(megabytes)
    if times.hold != HOLD_SECONDS:
        limits["hold"] = times.hold
    if (drain := _drain(spec, times)) > contract.DRAIN_SECONDS:
        limits["drain"] = drain
    if times.idle is not None:
        limits["idleTimeout"] = times.idle
    if times.body is not None:
        limits["bodyTimeout"] = times.body
    if (context := _context(spec)) is not None:
        limits["maxText"] = max(_BYTES_PER_TOKEN * context, _LEAST_TEXT)
    if spec.limits is None:
        return limits
    if spec.limits.queue is not None:
        limits["queue"] = spec.limits.queue
    if spec.limits.timeout is not None:
        limits["timeout"] = units.seconds(spec.limits.timeout)
    if spec.limits.max_output_tokens is not None:
        limits["maxOutputTokens"] = spec.limits.max_output_tokens
    return limits


def _context(spec: InferenceServiceSpec) -> int | None:
    """Return the tokens that a prompt can have, as far as the object says."""
    given = (
        spec.model.max_length if spec.model else None,
        spec.limits.max_prompt_tokens if spec.limits else None,
    )
    return min((tokens for tokens in given if tokens is not None), default=None)


def _check_memory(spec: InferenceServiceSpec, profile: ServingProfileSpec, name: str) -> None:
    """Refuse limits that allow a router more memory than it has."""
    memory = router_memory.divide(profile.router or RouterSpec(), profile=name)
    if spec.cache and spec.cache.responses:
        router_memory.check_cache(spec.cache.responses.size, memory, profile=name)


def _drain(spec: InferenceServiceSpec, times: Times) -> float:
    """Return the seconds for which a router that stops waits for the service's running requests.

    That is as long as a request may take, unless the object limits the drain. The router stops earlier once none runs.
    """
    timeout = spec.limits.timeout if spec.limits else None
    if timeout is None or (spec.times and spec.times.drain):
        return times.drain
    return max(times.drain, min(units.seconds(timeout), contract.LONGEST_DRAIN_SECONDS))


def _responses(spec: InferenceServiceSpec) -> dict[str, Any] | None:
    kept = spec.cache.responses if spec.cache else None
    if kept is None:
        return None
    return {"ttl": units.seconds(kept.ttl), "size": int(units.quantity(kept.size))}
