"""Objects of each service, as the watches report them."""

import dataclasses
from collections.abc import Iterator

from slipstream_operator.core.observed import Child, Fetcher, Key, ObservedPod, Parent, Ref


@dataclasses.dataclass(slots=True)
class ServiceObjects:
    """The InferenceService, its children and its pods."""

    parent: Parent | None = None
    children: dict[Ref, Child] = dataclasses.field(default_factory=dict)
    pods: dict[str, ObservedPod] = dataclasses.field(default_factory=dict)
    workers: dict[str, ObservedPod] = dataclasses.field(default_factory=dict)
    fetchers: dict[str, Fetcher] = dataclasses.field(default_factory=dict)
    prefetchers: dict[str, Fetcher] = dataclasses.field(default_factory=dict)

    @property
    def foreign(self) -> tuple[str, ...]:
        """Return the names of running pods that have labels of the service's pods, and are none of them."""
        pods = [*self.pods.values(), *self.workers.values()]
        fetchers = [*self.fetchers.values(), *self.prefetchers.values()]
        found = [pod.name for pod in pods if pod.foreign and pod.current]
        found += [one.name for one in fetchers if one.foreign and not one.deleting]
        return tuple(sorted(found))


class ServiceIndex:
    """Objects of all services, by namespace and name."""

    def __init__(self) -> None:
        self._services: dict[str, dict[str, ServiceObjects]] = {}

    def get(self, key: Key) -> ServiceObjects | None:
        """Return the service's objects; None if there are none."""
        return self._services.get(key.namespace, {}).get(key.name)

    def of(self, namespace: str, name: str) -> ServiceObjects:
        """Return the service's objects for a change; call `prune` afterwards."""
        return self._services.setdefault(namespace, {}).setdefault(name, ServiceObjects())

    def prune(self, namespace: str, name: str) -> None:
        """Drop the service if it has no objects left."""
        if self.of(namespace, name) == ServiceObjects():
            del self._services[namespace][name]
            if not self._services[namespace]:
                del self._services[namespace]

    @property
    def namespaces(self) -> set[str]:
        """Return the namespaces in which a service has objects."""
        return set(self._services)

    def parents(self, namespace: str) -> list[Parent]:
        """Return the InferenceServices of a namespace."""
        services = self._services.get(namespace, {}).values()
        return [service.parent for service in services if service.parent is not None]

    def all_parents(self) -> Iterator[Parent]:
        """Yield all InferenceServices."""
        for namespace in self._services:
            yield from self.parents(namespace)

    def siblings(self, key: Key) -> tuple[Parent, ...]:
        """Return the other InferenceServices of the namespace that are not being deleted."""
        return tuple(
            parent
            for parent in self.parents(key.namespace)
            if parent.key != key and not parent.deleting
        )
