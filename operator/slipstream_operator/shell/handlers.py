"""Handlers of kopf's watches: each event goes into the store, and its key into the queue.

Only `on.event` handlers: all others put finalizers or annotations on users' objects.
"""

from collections.abc import Callable
from typing import Any, Final

import kopf

from slipstream_operator import names
from slipstream_operator.shell.queue import Queue
from slipstream_operator.shell.store import Store

WATCHED: Final[dict[str, tuple[str, str, str]]] = {
    names.INFERENCE_SERVICE: (names.GROUP, names.VERSION, "inferenceservices"),
    names.INFERENCE_ROUTE: (names.GROUP, names.VERSION, "inferenceroutes"),
    names.SERVING_PROFILE: (names.GROUP, names.VERSION, "servingprofiles"),
    "Namespace": ("", "v1", "namespaces"),
    "CustomResourceDefinition": ("apiextensions.k8s.io", "v1", "customresourcedefinitions"),
    "Pod": ("", "v1", "pods"),
    "Deployment": ("apps", "v1", "deployments"),
    names.JOB: ("batch", "v1", "jobs"),
    "Service": ("", "v1", "services"),
    "ConfigMap": ("", "v1", "configmaps"),
    "NetworkPolicy": ("networking.k8s.io", "v1", "networkpolicies"),
    "PodDisruptionBudget": ("policy", "v1", "poddisruptionbudgets"),
    "PodMonitor": ("monitoring.coreos.com", "v1", "podmonitors"),
    names.RESOURCE_CLAIM_TEMPLATE: ("resource.k8s.io", "v1", "resourceclaimtemplates"),
    "Lease": ("coordination.k8s.io", "v1", "leases"),
    "ServiceAccount": ("", "v1", "serviceaccounts"),
    "Role": ("rbac.authorization.k8s.io", "v1", "roles"),
    "RoleBinding": ("rbac.authorization.k8s.io", "v1", "rolebindings"),
}
UNLABELLED: Final = (
    names.INFERENCE_SERVICE,
    names.INFERENCE_ROUTE,
    names.SERVING_PROFILE,
    "Namespace",
    "CustomResourceDefinition",
)
"""Kinds of which every object matters; of the others only those with our label."""


def registry(*, store: Store, queue: Queue) -> kopf.OperatorRegistry:
    """Handlers that feed the store and the queue."""
    handlers = kopf.OperatorRegistry()
    kopf.on.login(registry=handlers)(_login)
    for kind, (group, version, plural) in WATCHED.items():
        kopf.on.event(group, version, plural, registry=handlers, id=f"feed-{plural}")(
            _feeder(kind, store, queue)
        )
    return handlers


def labelled() -> list[tuple[str, str, str]]:
    """(group, version, plural) of the kinds that are watched by label."""
    return [resource for kind, resource in WATCHED.items() if kind not in UNLABELLED]


def _feeder(kind: str, store: Store, queue: Queue) -> Callable[..., Any]:
    async def feed(event: kopf.RawEvent, **_: Any) -> None:
        queue.add_all(store.feed(kind, event["object"], gone=event["type"] == "DELETED"))

    return feed


async def _login(**arguments: Any) -> kopf.ConnectionInfo | None:
    return kopf.login_with_service_account(**arguments) or kopf.login_via_client(**arguments)
