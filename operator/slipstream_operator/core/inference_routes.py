"""InferenceRoutes of a namespace: their validation, their entries in the router's configuration, and their status."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final

from slipstream_operator.api import conditions, units
from slipstream_operator.api.conditions import Verdict
from slipstream_operator.api.inferenceroute import (
    AcceptSpec,
    InferenceRouteSpec,
    InferenceRouteStatus,
    StageStatus,
)
from slipstream_operator.api.servingprofile import ServingProfileSpec
from slipstream_operator.api.status import ConditionStatus
from slipstream_operator.core import parsing, profiles, route_hooks
from slipstream_operator.core.observed import Manifest, ObservedRouter, Parent, RouterState
from slipstream_operator.core.router_config import Entry, RouterProblem
from slipstream_operator.core.scaling.metrics import samples as border
from slipstream_operator.core.scaling.metrics.values import Sample, Samples, Unknown
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Condition, Reason
from slipstream_runtime import contract

ANSWERS, TOKENS = "answers", "tokens"
_SPAN: Final = "1h"


@dataclasses.dataclass(frozen=True)
class ValidatedRoutes:
    """Routes of a namespace: entries for the router, and refusals."""

    entries: Mapping[str, Manifest]
    refused: Mapping[str, PermanentError]


def validate(observed: ObservedRouter, services: Mapping[str, Entry]) -> ValidatedRoutes:
    """Check every route. A route with an invalid change keeps its previous entry in the router."""
    taken = {
        model: f"InferenceService {name}"
        for name, entry in services.items()
        for model in (*entry.settings["adapters"], entry.settings["model"])
    }
    profile = _profile(observed)
    entries: dict[str, Manifest] = {}
    refused: dict[str, PermanentError] = {}
    oldest_first = sorted(observed.routes, key=lambda route: (route.created, route.key))
    for route in oldest_first:
        name = route.key.name
        if route.deleting:
            continue
        try:
            entry = _entry(route, observed, services, taken, profile)
        except PermanentError as error:
            refused[name] = error
            if name in observed.listed_routes:
                entries[name] = route_hooks.allowed(
                    observed.listed_routes[name], namespace=route.key.namespace, profile=profile
                )
            continue
        entries[name] = entry
        taken[entry["model"]] = f"the older InferenceRoute {name}"
    return ValidatedRoutes(entries, refused)


def _entry(
    route: Parent,
    observed: ObservedRouter,
    services: Mapping[str, Entry],
    taken: Mapping[str, str],
    profile: tuple[str, ServingProfileSpec] | None,
) -> dict[str, Any]:
    spec = parsing.parse(InferenceRouteSpec, route.spec, what="spec")
    if holder := taken.get(spec.model):
        raise PermanentError(
            Reason.NAME_TAKEN,
            f'spec.model: "{spec.model}" is already served by {holder} in this namespace. Use another name.',
        )
    hooks = route_hooks.entries(
        spec, namespace=route.key.namespace, profile=profile, services=services.keys()
    )
    if spec.backends is not None:
        for index, backend in enumerate(spec.backends):
            _check(f"spec.backends[{index}].service", backend.service, observed, services)
        shares = [
            {"service": backend.service, "weight": backend.weight} for backend in spec.backends
        ]
        return {"name": route.key.name, "model": spec.model, "backends": shares, **hooks}
    assert spec.cascade is not None
    for index, stage in enumerate(spec.cascade.stages):
        _check(f"spec.cascade.stages[{index}].service", stage.service, observed, services)
    entry: dict[str, Any] = {
        "name": route.key.name,
        "model": spec.model,
        "stages": [
            {"service": stage.service, "accept": _accept(stage.accept)}
            for stage in spec.cascade.stages
        ],
        **hooks,
    }
    if spec.cascade.budget is not None:
        entry["maxEscalation"] = units.share(spec.cascade.budget)
    return entry


def _check(
    field: str, service: str, observed: ObservedRouter, services: Mapping[str, Entry]
) -> None:
    if service in services:
        return
    if all(parent.key.name != service for parent in observed.services):
        problem, remedy = (
            "is not an InferenceService in this namespace",
            "Create it, or use another service.",
        )
    else:
        problem = "is not served by the router"
        remedy = "Check its condition Accepted, and use routing.mode: Router."
    raise PermanentError(Reason.BACKEND_NOT_FOUND, f'{field}: "{service}" {problem}. {remedy}')


def _accept(accept: AcceptSpec | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if accept and accept.min_confidence is not None:
        found["minConfidence"] = units.share(accept.min_confidence)
    if accept and accept.max_prompt_tokens is not None:
        found["maxPromptTokens"] = accept.max_prompt_tokens
    return found


def queries() -> Mapping[str, str]:
    """Return the queries for the figures in status, by name. Each covers all routes."""
    labels = f"namespace, route, service, {contract.OUTCOME_LABEL}"

    def increase(metric: str) -> str:
        # NB: one copy of each series, however often a router is scraped.
        found = f'increase({metric}{{exported_service=""}}[{_SPAN}])'
        return f"max by ({labels}, pod) ({found})"

    return {
        ANSWERS: f"sum by (namespace, route, service) ({increase(contract.ROUTE_ANSWERS)})",
        TOKENS: f"sum by ({labels}) ({increase(contract.ROUTE_TOKENS)})",
    }


def _profile(observed: ObservedRouter) -> tuple[str, ServingProfileSpec] | None:
    """Return the name and the spec of the namespace's profile; None if there is none."""
    try:
        return profiles.select(
            observed.profiles, namespace=observed.namespace, labels=observed.namespace_labels
        )
    except PermanentError:
        return None


def _url(observed: ObservedRouter) -> str:
    """Return the base URL of the API at the router; without a profile there is no TLS."""
    found = _profile(observed)
    scheme = "https" if found and found[1].tls and found[1].tls.clients else "http"
    return f"{scheme}://{contract.ROUTER_NAME}.{observed.namespace}.svc/v1"


def summarise(
    route: Parent,
    observed: ObservedRouter,
    judged: ValidatedRoutes,
    *,
    listed: RouterState,
    samples: Samples,
    now: str,
    problem: RouterProblem | None = None,
) -> dict[str, Any]:
    """Return the status to write; `problem` is why the router can't be changed."""
    name = route.key.name
    accepted = _accepted(judged.refused.get(name))
    available = _available(route, observed, judged, listed=listed, problem=problem)
    hooks = _hooks(route, observed, judged, listed=listed)
    merged = conditions.merge(
        [_ready(accepted, available), accepted, available, *([hooks] if hooks else [])],
        before=route.conditions,
        generation=route.generation,
        now=now,
    )
    services = _services(judged.entries.get(name, {}))
    tokens = _of(samples.get(TOKENS, ()), route)
    cascade = "stages" in judged.entries.get(name, {})
    return InferenceRouteStatus(
        observed_generation=route.generation,
        url=_url(observed),
        conditions=[ConditionStatus(**condition.model_dump()) for condition in merged],
        stages=_stages(services, _of(samples.get(ANSWERS, ()), route)) or None,
        saved=_total(tokens, outcome=contract.KEPT, services=services[:-1]) if cascade else None,
        discarded=_total(tokens, outcome=contract.DISCARDED, services=services)
        if cascade
        else None,
    ).model_dump(by_alias=True, exclude_none=True)


def essence(status: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the status without the numbers that change constantly."""
    return {
        **{key: status.get(key) for key in ("observedGeneration", "url")},
        "conditions": [
            (condition["type"], condition["status"], condition["reason"])
            for condition in status.get("conditions", [])
        ],
        "services": [stage["service"] for stage in status.get("stages", [])],
    }


def _accepted(refusal: PermanentError | None) -> Verdict:
    if refusal is not None:
        return Verdict(Condition.ACCEPTED, "False", refusal.reason, refusal.message)
    return Verdict(Condition.ACCEPTED, "True", Reason.ACCEPTED, "The object is valid.")


def _available(
    route: Parent,
    observed: ObservedRouter,
    judged: ValidatedRoutes,
    *,
    listed: RouterState,
    problem: RouterProblem | None,
) -> Verdict:
    def verdict(status: conditions.ConditionStatus, reason: str, message: str) -> Verdict:
        return Verdict(Condition.AVAILABLE, status, reason, message)

    entry = judged.entries.get(route.key.name)
    if entry is None:
        return verdict(
            "False", Reason.PENDING, "The route has no entry in the router's configuration."
        )
    outdated = observed.listed_routes.get(route.key.name) != entry
    if problem is not None and (outdated or not listed.answers):
        return verdict("False", problem.reason, problem.message)
    if not listed.answers:
        why = listed.trouble or "None of its pods is ready."
        return verdict(
            "False", Reason.ROUTER_NOT_READY, f"Deployment {contract.ROUTER_NAME}: {why}"
        )
    if outdated:
        return verdict("False", Reason.PENDING, "The router's configuration is being updated.")
    up = {parent.key.name for parent in observed.services if _is_available(parent)}
    missing = [service for service in _services(entry) if service not in up]
    if missing:
        return verdict(
            "False",
            Reason.BACKENDS_NOT_READY,
            f"Services that are not available: {', '.join(sorted(missing))}.",
        )
    return verdict("True", Reason.BACKENDS_READY, "All services of the route are available.")


def _hooks(
    route: Parent, observed: ObservedRouter, judged: ValidatedRoutes, *, listed: RouterState
) -> Verdict | None:
    entry = judged.entries.get(route.key.name)
    if entry is None or route.key.name in judged.refused:
        return None
    parents = observed.services
    return route_hooks.verdict(
        route.spec,
        entry=entry,
        known={parent.key.name for parent in parents},
        available={parent.key.name for parent in parents if _is_available(parent)},
        key=listed.keys,
    )


def _is_available(parent: Parent) -> bool:
    return any(
        condition.type == Condition.AVAILABLE and condition.status == "True"
        for condition in parent.conditions
    )


def _ready(*needed: Verdict) -> Verdict:
    for verdict in needed:
        if verdict.status != "True":
            return Verdict(Condition.READY, "False", verdict.reason, verdict.message)
    return Verdict(Condition.READY, "True", Reason.BACKENDS_READY, "The route is ready.")


def _services(entry: Manifest) -> list[str]:
    """Return the services that can get requests, each once, in order."""
    shares = [share["service"] for share in entry.get("backends", ()) if share["weight"]]
    stages = [stage["service"] for stage in entry.get("stages", ())]
    return list(dict.fromkeys([*shares, *stages]))


def _of(samples: Sequence[Sample] | Unknown, route: Parent) -> list[Sample]:
    if isinstance(samples, Unknown):
        return []
    wanted = (route.key.namespace, route.key.name)
    return [
        sample
        for sample in samples
        if (sample.labels.get("namespace"), sample.labels.get("route")) == wanted
        and border.is_plausible(sample.value)
    ]


def _stages(services: Sequence[str], answers: Sequence[Sample]) -> list[StageStatus]:
    counts = {sample.labels.get("service", ""): sample.value for sample in answers}
    total = sum(counts.values())
    return [
        StageStatus(
            service=service,
            share=f"{100 * counts.get(service, 0.0) / total:.1f}%" if total > 0 else None,
        )
        for service in services
    ]


def _total(tokens: Sequence[Sample], *, outcome: str, services: Sequence[str]) -> str | None:
    """Return the tokens with this outcome at these services; None without data."""
    found = [
        sample.value
        for sample in tokens
        if sample.labels.get(contract.OUTCOME_LABEL) == outcome
        and sample.labels.get("service") in services
    ]
    return f"{sum(found):.0f} tokens/{_SPAN}" if found else None
