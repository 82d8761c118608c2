"""Manifests of the children: one module for each kind, with pure functions of the resolved service."""

import json
from collections.abc import Mapping
from typing import Any

from slipstream_operator import names
from slipstream_operator.core import build_sources, revisions
from slipstream_operator.core.fetching import Fetched, is_done
from slipstream_operator.core.observed import Key, Manifest, Observed
from slipstream_operator.core.render import (
    activation,
    common,
    config,
    devices,
    fetch,
    gateway,
    group,
    monitor,
    prefetch,
    protection,
    service,
    workload,
)
from slipstream_operator.core.resolved import Resolved


def render(
    observed: Observed,
    resolved: Resolved,
    rollout: revisions.Rollout,
    *,
    state: Mapping[str, str],
    fetched: Fetched | None = None,
) -> list[dict[str, Any]]:
    """Return all desired children in the order of their creation. `state` are the texts to store."""
    key, uid = resolved.key, resolved.uid
    prometheus = resolved.prometheus[0].url if resolved.prometheus else None
    children: list[dict[str, Any]] = []
    spans_nodes = secure = False
    if state:
        children.append(config.state(key, uid, texts=state))
    if resolved.task is not None and not is_done(resolved.task, fetched):
        children.append(protection.fetch_policy(key, uid, egress=resolved.egress))
        children.append(fetch.job(key, uid, task=resolved.task))
    if resolved.prefetch is not None:
        children.append(prefetch.job(key, uid, prefetch=resolved.prefetch))
    if resolved.bounds.maximum > 1:  # the only pod of a service can always be evicted
        children.append(protection.disruption_budget(key, uid))
    if resolved.adapters is not None:
        children.append(config.adapters(key, uid, listed=resolved.adapters))
    of_spec = revisions.identity(resolved.revisioned)
    for revision in rollout.revisions:
        data = revisions.stored(observed, revision.hash)
        if data is None and revision.hash == of_spec:
            data = config.revision_data(
                config=resolved.revisioned.config,
                template=workload.pod_template(resolved, revision=revision.hash),
                devices=resolved.revisioned.devices,
                builds=build_sources.record(resolved.builds),
            )
        if data is None:
            continue
        nodes = revisions.nodes(data)
        spans_nodes |= nodes > 1
        if revision.hash == rollout.active:
            secure = revisions.certified(data)
        children += [
            config.revision(key, uid, revision=revision.hash, data=data),
            service.headless(key, uid, revision=revision.hash, secure=revisions.certified(data)),
            *devices.claim_templates(key, uid, revision=revision.hash, data=data),
            _workload(
                key, uid, revision, template=json.loads(data[revisions.TEMPLATE_KEY]), nodes=nodes
            ),
        ]
    policies = [
        protection.network_policy(
            key,
            uid,
            prometheus=prometheus,
            scraping=resolved.scraping,
            # NB: the port closes after the Service has left the engines, or clients of a Service that changes to the
            # router would be cut off.
            routed=rollout.by_router and revisions.by_router(observed) is not False,
            gateways=resolved.gateways,
            egress=resolved.egress,
            spans_nodes=spans_nodes,
        ),
        *([protection.workers_policy(key, uid, egress=resolved.egress)] if spans_nodes else []),
    ]
    if spans_nodes and resolved.bounds.maximum > 1:
        policies.append(protection.workers_budget(key, uid))
    children = [*policies, *children]
    selected = (
        names.router_selector() if rollout.by_router else common.selector(key.name, rollout.active)
    )
    if resolved.bounds.minimum == 0 and resolved.bounds.follows_load:
        children.append(activation.lease(key, uid))
    if resolved.routing.mode == "Gateway" and observed.gateway.kinds:
        children += gateway.render(resolved, active=rollout.active)
    ports = (
        service.router_ports(plain=resolved.routing.plain, secure=resolved.routing.secure)
        if rollout.by_router
        else service.engine_ports(secure=secure)
    )
    children.append(service.public(key, uid, selected=selected, ports=ports))
    if resolved.scraping.by_pod_monitor:
        children.append(monitor.pod_monitor(key, uid, labels=resolved.scraping.labels))
    return [common.fingerprinted(child) for child in children]


def _workload(
    key: Key, uid: str, revision: revisions.Revision, *, template: Manifest, nodes: int
) -> dict[str, Any]:
    """Return the object that runs the pods of a revision."""
    if nodes > 1:
        return group.leader_worker_set(
            key,
            uid,
            revision=revision.hash,
            template=template,
            replicas=revision.replicas,
            nodes=nodes,
        )
    return workload.deployment(
        key, uid, revision=revision.hash, template=template, replicas=revision.replicas
    )
