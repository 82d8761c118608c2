"""Configuration of a namespace's router: the entries of its services and routes, and its settings.

The entries have the form of `Service` and `Route` in `slipstream_runtime.router.config`. A test parses them there.
"""

import dataclasses
import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from slipstream_operator import names
from slipstream_operator.api.servingprofile import RouterSpec, ServingProfileSpec
from slipstream_operator.api.tls import TlsSpec
from slipstream_operator.core import (
    profiles,
    prometheus,
    route_hooks,
    router_memory,
    times,
    wording,
)
from slipstream_operator.core.observed import Manifest, ObservedRouter, Parent, Ref, RouterState
from slipstream_operator.core.render import pods, router
from slipstream_operator.core.resolved import Resolved
from slipstream_operator.core.revisions import Rollout
from slipstream_operator.core.router_memory import RouterMemory
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason

WHOLE_BYTES: Final = 512 * 1024
"""Bytes of a configuration in one ConfigMap, of which the API server accepts 1 MiB."""
PART_BYTES: Final = 256 * 1024
"""Bytes of one part of a larger configuration."""
_MOST_BITS: Final = 10
"""Parts are at most two to the power of this. An entry of any size that the CRD allows fits into a ConfigMap."""
_NAME_DIGITS: Final = 12
"""Hexadecimal digits of a part's name, enough to tell some thousand texts apart."""


MOST_FOREIGN: Final = 500
"""Names of foreign pods in an entry, which then has at most 126 KiB of names."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """Entry of a service in the router's configuration."""

    settings: Manifest

    @property
    def keys(self) -> str | None:
        """Return the Secret of the keys that its clients need; None if they need none."""
        secret: str | None = self.settings.get("keySecret")
        return secret


@dataclasses.dataclass(frozen=True)
class RouterProblem:
    """Cause for which the objects of a namespace's router can't be changed; it goes on with its last configuration."""

    reason: str
    message: str
    foreign_token: bool = False
    """Whether another owner holds the name of a Secret with tokens, so that no engine starts with its content."""


def problem(conflicts: Sequence[Ref], failures: Sequence[str]) -> RouterProblem | None:
    """Return the problem after an attempt to apply the router's objects; None if there is none."""
    if conflicts:
        foreign = any(ref.kind == "Secret" for ref in conflicts)
        return RouterProblem(Reason.NAME_CONFLICT, wording.held(conflicts), foreign)
    return RouterProblem(Reason.REJECTED, "; ".join(failures)) if failures else None


def entry(
    resolved: Resolved,
    rollout: Rollout,
    *,
    kv_capacity: int | None,
    usual_start: float | None = None,
    foreign: Sequence[str] = (),
    tokens: Collection[str] = (),
) -> Entry | None:
    """Return the entry of the service; None if the router does not serve it.

    `usual_start` is the 90th percentile of the seconds of a start, if one was measured. The `foreign` pods get no
    requests. Engines of the revisions in `tokens` accept a token of their service alone.
    """
    if rollout.routed is None:
        return None
    name, routing = resolved.key.name, resolved.routing
    hold = times.hold(resolved.times, usual_start)
    longer = {"hold": hold} if hold > resolved.times.hold else {}
    settings: dict[str, Any] = {
        "name": name,
        "model": resolved.model_name,
        "adapters": sorted(resolved.adapters or ()),
        "revisions": [
            {
                "name": names.revision_name(name, revision.hash),
                "weight": rollout.weight(revision.hash),
                **({"token": resolved.uid} if revision.hash in tokens else {}),
            }
            for revision in rollout.revisions
        ],
        "strategy": routing.strategy,
        "limits": {**routing.limits, **longer},
        "keys": routing.keys is not None,
    }
    if routing.keys is not None:
        settings["keySecret"] = routing.keys
    if routing.keys is not None and routing.prefix_scope is not None:
        settings["prefixScope"] = routing.prefix_scope
    if routing.responses is not None:
        settings["responses"] = routing.responses
    if routing.origins:
        settings["cors"] = {"allowOrigins": list(routing.origins)}
    if resolved.bounds.minimum == 0 and resolved.bounds.follows_load:
        settings["activation"] = names.activation_name(name)
    if resolved.bounds.maximum == 0:
        settings["stopped"] = True
    if kv_capacity:
        settings["kvTokens"] = kv_capacity
    if foreign:
        settings["foreign"] = list(foreign[:MOST_FOREIGN])
    return Entry(settings)


def known(listed: RouterState) -> Entry | None:
    """Return the current entry of the service, which stays if a change of the object is invalid."""
    return Entry(listed.entry) if listed.entry is not None else None


@dataclasses.dataclass(frozen=True)
class Documents:
    """Text of the router's configuration, and of its parts if one ConfigMap can't hold all entries."""

    main: str
    parts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Name of a ConfigMap -> its text. The name is made of the text, so a part never changes."""


def documents(
    namespace: str,
    services: Sequence[Manifest],
    routes: Sequence[Manifest],
    *,
    bodies: Manifest | None = None,
    caches: int | None = None,
    account: str | None = None,
) -> Documents:
    """Return the texts of the configuration. Equal entries give equal texts.

    `caches` are the bytes of all response caches, where a service has one. The ServiceAccount with uid `account` owns
    the Secret of the engines' tokens; None while it does not exist.
    """
    cached = any(service.get("responses") for service in services)
    tokens = {"secret": names.ENGINE_TOKENS, "owner": account}
    common: dict[str, Any] = {
        **({"engineTokens": tokens} if account else {}),
        **({"bodies": bodies} if bodies else {}),
        **({"caches": caches} if cached and caches is not None else {}),
        "namespace": namespace,
    }
    whole = _text({**common, **_sorted(services, routes)})
    if len(whole) <= WHOLE_BYTES:
        return Documents(whole)
    texts = [_text(part) for part in _parts(services, routes)]
    parts = {f"{router.NAME}-{_digest(text)[:_NAME_DIGITS]}": text for text in texts}
    return Documents(_text({**common, **_sorted((), ()), "parts": sorted(parts)}), parts)


def _parts(
    services: Sequence[Manifest], routes: Sequence[Manifest]
) -> list[Mapping[str, Sequence[Manifest]]]:
    """Return the entries in parts of PART_BYTES at most, or of one name. A name decides its part.

    So a change of one entry changes one part, unless the number of parts changes.
    """
    for bits in range(_MOST_BITS + 1):
        found: dict[int, tuple[list[Manifest], list[Manifest]]] = {}
        for kind, entries in enumerate((services, routes)):
            for entry in entries:
                number = int(_digest(str(entry["name"])), 16) % 2**bits
                found.setdefault(number, ([], []))[kind].append(entry)
        parts = [_sorted(*found[number]) for number in sorted(found)]
        if bits == _MOST_BITS or all(len(_text(part)) <= PART_BYTES for part in parts):
            return parts
    raise AssertionError("the loop returns at its last step")


def _sorted(
    services: Sequence[Manifest], routes: Sequence[Manifest]
) -> Mapping[str, Sequence[Manifest]]:
    return {
        "services": sorted(services, key=lambda service: str(service["name"])),
        "routes": sorted(routes, key=lambda route: str(route["name"])),
    }


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, sort_keys=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def parts(text: str) -> list[str]:
    """Return the names of the parts of a `router.json`; none if it is invalid."""
    try:
        found = json.loads(text).get("parts", [])
    except (ValueError, AttributeError, RecursionError):
        return []
    return found if isinstance(found, list) and _are_texts(*found) else []


def entries(text: str, *, part: str) -> Mapping[str, Manifest]:
    """Return the entries of `services` or `routes` in a `router.json`, by name.

    Invalid entries, as after an edit by hand, are left out. They are then overwritten.
    """
    try:
        return {entry["name"]: entry for entry in json.loads(text)[part] if _is_valid(entry, part)}
    except (ValueError, TypeError, KeyError, RecursionError):
        return {}


def _is_valid(entry: Any, part: str) -> bool:
    """Whether the entry has the fields that are read back from it."""
    if not isinstance(entry, dict) or not _are_texts(entry.get("name"), entry.get("model")):
        return False
    if part == "services":
        shares, adapters = entry.get("revisions"), entry.get("adapters")
        named = isinstance(adapters, dict | list) and _are_texts(*adapters)
        return named and _are_shares(shares, name="name")
    if "stages" in entry:
        stages = entry["stages"]
        return isinstance(stages, list) and all(
            isinstance(stage, dict) and _are_texts(stage.get("service")) for stage in stages
        )
    return _are_shares(entry.get("backends"), name="service")


def _are_shares(shares: Any, *, name: str) -> bool:
    return isinstance(shares, list) and all(
        isinstance(share, dict)
        and _are_texts(share.get(name))
        and isinstance(share.get("weight"), int)
        for share in shares
    )


def _are_texts(*values: Any) -> bool:
    return all(isinstance(value, str) for value in values)


def resolve(
    observed: ObservedRouter,
    services: Mapping[str, Entry],
    routes: Mapping[str, Manifest],
) -> router.Router | None:
    """Return the desired router; None if no service uses it. Raise PermanentError if the profile has no image."""
    users = [parent for parent in observed.services if parent.key.name in services]
    followers = [parent for parent in observed.routes if not parent.deleting]
    if not users:
        return None
    name, profile = profiles.select(
        observed.profiles, namespace=observed.namespace, labels=observed.namespace_labels
    )
    image = profile.images.router if profile.images else None
    if not image:
        raise PermanentError(
            Reason.IMAGE_MISSING,
            f"images.router: is not set in ServingProfile {name}. Set the image of the router.",
        )
    spec, tls = profile.router or RouterSpec(), profile.tls or TlsSpec()
    memory = router_memory.divide(spec, profile=name)
    texts = documents(
        observed.namespace,
        [entry.settings for entry in services.values()],
        list(routes.values()),
        bodies=_bodies(spec, memory),
        caches=memory.caches,
        account=existing.uid if (existing := observed.child("ServiceAccount")) else None,
    )
    scraping = prometheus.scraping(profile, pod_monitors=observed.pod_monitors)
    return router.Router(
        namespace=observed.namespace,
        image=image,
        replicas=spec.replicas or router.REPLICAS,
        resources=router_memory.resources(spec, _dump(router.RESOURCES), profile=name),
        placement=_placement(spec),
        document=texts.main,
        parts=texts.parts,
        key_secrets=sorted(
            {entry.keys for entry in services.values() if entry.keys}
            | {secret for route in routes.values() if (secret := route_hooks.secret(route))}
        ),
        leases=sorted(
            entry.settings["activation"]
            for entry in services.values()
            if "activation" in entry.settings
        ),
        users=sorted(users, key=_by_name),
        routes=sorted(followers, key=_by_name),
        prometheus=profile.prometheus.url if profile.prometheus else None,
        scraping=scraping,
        annotated=_is_annotated(observed, profile, scraping),
        account=spec.service_account_name or router.NAME,
        assigned_user=profile.users == "Assigned",
        certificate=tls.clients.secret if tls.clients else None,
        plain=tls.clients is None or tls.clients.http == "Allowed",
        authorities=tls.engines.secret if tls.engines else None,
    )


def _is_annotated(
    observed: ObservedRouter, profile: ServingProfileSpec, scraping: prometheus.Scraping
) -> bool:
    """Whether annotations announce the router's pods. If the profile does not decide, they stay as they are.

    Their change would restart the router when the kind PodMonitor comes to the cluster.
    """
    deployment = observed.child("Deployment")
    if deployment is None or (profile.prometheus and profile.prometheus.discovery):
        return not scraping.by_pod_monitor
    template = deployment.manifest["spec"]["template"].get("metadata", {})
    return bool(pods.SCRAPED.items() <= template.get("annotations", {}).items())


def readiness(deployment: Manifest, status: Manifest) -> tuple[bool, bool]:
    """Whether all desired router pods are available, and whether at least one is."""
    wanted, there = deployment["spec"].get("replicas", 1), status.get("availableReplicas", 0)
    return bool(wanted and there >= wanted), bool(there)


def _bodies(spec: RouterSpec, memory: RouterMemory) -> dict[str, int]:
    """Return the limits of bodies that are not the router's defaults, in bytes."""
    found = {}
    if memory.size is not None:
        found["size"] = memory.size
    if spec.body_memory is not None or memory.bodies != router_memory.BODIES_BYTES:
        found["memory"] = memory.bodies
    return found


def _placement(spec: RouterSpec) -> dict[str, Any]:
    placed = _dump(spec)
    return {
        key: placed[key]
        for key in (
            "nodeSelector",
            "tolerations",
            "runtimeClassName",
            "priorityClassName",
            "imagePullSecrets",
        )
        if key in placed
    }


def _by_name(parent: Parent) -> str:
    return parent.key.name


def _dump(model: Any) -> dict[str, Any]:
    dumped: dict[str, Any] = model.model_dump(by_alias=True, exclude_none=True)
    return dumped
