"""Hooks of an InferenceRoute: their validation, their entries in the router's configuration, and their condition."""

import fnmatch
import re
from collections.abc import Collection, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from slipstream_operator.api import units
from slipstream_operator.api.conditions import Verdict
from slipstream_operator.api.inferenceroute import InferenceRouteSpec
from slipstream_operator.api.route_hooks import SEARCH_URL, CondenseSpec, RetrieveSpec
from slipstream_operator.api.servingprofile import ServingProfileSpec
from slipstream_operator.core.key_problems import KeyProblem
from slipstream_operator.core.observed import Manifest
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Condition, Reason
from slipstream_runtime import contract

_PORTS: Final = {"http": 80, "https": 443}
_SERVICE: Final = "[a-z]([a-z0-9-]{0,61}[a-z0-9])?"


def entries(
    spec: InferenceRouteSpec,
    *,
    namespace: str,
    profile: tuple[str, ServingProfileSpec] | None,
    services: Collection[str],
) -> dict[str, Any]:
    """Return the route's hooks for the router. PermanentError if the profile does not allow a search.

    A hook whose service is not served by the router is left out, so that the route goes on without it.
    """
    found: dict[str, Any] = {}
    if spec.retrieve is not None:
        found["retrieve"] = _retrieve(spec.retrieve, namespace=namespace, profile=profile)
    if spec.condense is not None and spec.condense.service in services:
        found["condense"] = _condense(spec.condense)
    return found


def allowed(
    entry: Manifest, *, namespace: str, profile: tuple[str, ServingProfileSpec] | None
) -> Manifest:
    """Return an entry that stays in the router, without a search that the profile does not allow any more."""
    retrieve = entry.get("retrieve")
    if retrieve is None:
        return entry
    try:
        _check_url(str(retrieve["url"]), namespace=namespace, profile=profile)
        if (name := secret(entry)) is not None:
            _check_secret(name, profile=profile)
    except (PermanentError, KeyError, TypeError):
        return {field: value for field, value in entry.items() if field != "retrieve"}
    return entry


def secret(entry: Manifest) -> str | None:
    """Return the Secret with the API key of the route's search; None if it has none."""
    retrieve = entry.get("retrieve")
    key = retrieve.get("key") if isinstance(retrieve, Mapping) else None
    name = key.get("secret") if isinstance(key, Mapping) else None
    return name if isinstance(name, str) else None


def verdict(
    route: Manifest,
    *,
    entry: Manifest,
    known: Collection[str],
    available: Collection[str],
    key: KeyProblem | None = None,
) -> Verdict | None:
    """Return the condition of the hooks in the route's spec; None if there are none.

    `known` and `available` are services of the namespace. `key` is what the router reports on the key of the search.
    Whether a search answers is known to the router alone.
    """
    condense = route.get("condense")
    if condense is None and route.get("retrieve") is None:
        return None
    if condense is not None:
        service = str(condense.get("service"))
        if "condense" not in entry:
            problem = (
                "is not served by the router. Check its condition Accepted, and use routing.mode: Router."
                if service in known
                else "is not an InferenceService in this namespace. Create it, or use another service."
            )
            message = (
                f'spec.condense.service: "{service}" {problem} Until then chats pass unchanged.'
            )
            return Verdict(Condition.HOOKS_READY, "False", Reason.HOOK_SERVICE_MISSING, message)
        if service not in available:
            message = f"Service {service} is not available. Until it is, long chats pass unchanged."
            return Verdict(Condition.HOOKS_READY, "False", Reason.HOOK_SERVICE_NOT_READY, message)
    if key is not None and (name := secret(entry)) is not None:
        problem = (
            f"can't be read by the router. Check the Role {contract.ROUTER_NAME}, and the log of the router."
            if key.state == contract.KEYS_UNREADABLE
            else f"does not exist, or its entry {entry['retrieve']['key'].get('entry')} is missing or empty. Create it."
        )
        message = (
            f"spec.retrieve.apiKey: Secret {name} {problem} Until then chats pass without passages."
        )
        return Verdict(Condition.HOOKS_READY, "False", Reason.HOOK_KEY_MISSING, message)
    message = "The hooks are active. The router's metrics count their failures."
    return Verdict(Condition.HOOKS_READY, "True", Reason.HOOKS_READY, message)


def _retrieve(
    spec: RetrieveSpec, *, namespace: str, profile: tuple[str, ServingProfileSpec] | None
) -> dict[str, Any]:
    _check_url(spec.url, namespace=namespace, profile=profile)
    found: dict[str, Any] = {"url": spec.url}
    if spec.top_k is not None:
        found["topK"] = spec.top_k
    if spec.budget_tokens is not None:
        found["budgetTokens"] = spec.budget_tokens
    if spec.timeout is not None:
        found["timeout"] = units.seconds(spec.timeout)
    if spec.api_key is not None:
        _check_secret(spec.api_key.name, profile=profile)
        found["key"] = {"secret": spec.api_key.name, "entry": spec.api_key.key}
    return found


def _condense(spec: CondenseSpec) -> dict[str, Any]:
    found: dict[str, Any] = {"service": spec.service}
    for field, value in (
        ("overTokens", spec.over_tokens),
        ("keepTurns", spec.keep_turns),
        ("summaryTokens", spec.summary_tokens),
    ):
        if value is not None:
            found[field] = value
    if spec.timeout is not None:
        found["timeout"] = units.seconds(spec.timeout)
    return found


def _check_url(url: str, *, namespace: str, profile: tuple[str, ServingProfileSpec] | None) -> None:
    """Raise PermanentError unless the server is a Service of the namespace, or the profile allows it."""
    if re.fullmatch(SEARCH_URL.strip("^$"), url) is None or not _has_port(url):
        raise PermanentError(
            Reason.INVALID_SPEC,
            f'spec.retrieve.url: "{url}" is not the URL of a search. Use a URL such as '
            f"http://search.{namespace}.svc:8000/v1/vector_stores/handbook/search.",
        )
    parts = urlsplit(url)
    host = parts.hostname or ""
    own = rf"{_SERVICE}\.{re.escape(namespace)}\.svc(\.cluster\.local)?"
    if re.fullmatch(own, host):
        return
    name, allowed = "", []
    if profile is not None:
        name = profile[0]
        allowed = profile[1].retrieval.allow if profile[1].retrieval else []
    port = parts.port or _PORTS[parts.scheme]
    if any(_matches(parts.scheme, host, port, pattern) for pattern in allowed):
        return
    raise PermanentError(
        Reason.NOT_ALLOWED,
        f'spec.retrieve.url: "{url}" can\'t be used because {host} is not a Service of namespace {namespace}, and '
        f"ServingProfile {name} does not allow it. Use a URL such as "
        f"http://search.{namespace}.svc:8000/v1/vector_stores/handbook/search, or ask the platform team to add "
        f'"{parts.scheme}://{parts.netloc}" to retrieval.allow.',
    )


def _has_port(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


def _matches(scheme: str, host: str, port: int, pattern: str) -> bool:
    """Whether the profile's pattern of a server matches. * stands for a part of the host alone."""
    kind, _, server = pattern.partition("://")
    name, _, given = server.partition(":")
    if kind != scheme or kind not in _PORTS:
        return False
    wanted = int(given) if given.isdigit() else _PORTS[kind]
    return port == wanted and fnmatch.fnmatchcase(host, name.lower())


def _check_secret(name: str, *, profile: tuple[str, ServingProfileSpec] | None) -> None:
    """Raise PermanentError for a Secret outside of the profile's list."""
    if profile is None or profile[1].secrets is None:
        return
    patterns = profile[1].secrets.allow
    if not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
        raise PermanentError(
            Reason.NOT_ALLOWED,
            f'spec.retrieve.apiKey.name: "{name}" matches none of the Secrets that ServingProfile {profile[0]} allows '
            f"({', '.join(patterns) or 'none'}). Use an allowed one, or ask the platform team to extend secrets.allow.",
        )
