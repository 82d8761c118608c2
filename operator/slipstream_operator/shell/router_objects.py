"""Objects of a namespace's router, and the configuration that they hold."""

import dataclasses
from collections.abc import Mapping

from slipstream_operator import names
from slipstream_operator.core import key_problems, router_config
from slipstream_operator.core.key_problems import KeyProblem
from slipstream_operator.core.observed import Child, Key, Manifest, Ref, RouterState
from slipstream_runtime import contract


@dataclasses.dataclass(frozen=True)
class Change:
    """Effects of a watch event on what the router does."""

    services: frozenset[str] = frozenset()
    """Names of the services whose entries changed."""
    readiness: bool = False
    """Whether the router's own readiness changed, on which all services and routes depend."""
    routes: bool = False
    """Whether something changed on which all routes depend: the router's configuration, or its report on their keys."""


@dataclasses.dataclass
class RouterObjects:
    """The router of one namespace."""

    children: dict[Ref, Child] = dataclasses.field(default_factory=dict)
    entries: Mapping[str, Manifest] = dataclasses.field(default_factory=dict)
    """Service -> its entry in the router's ConfigMap."""
    routes: Mapping[str, Manifest] = dataclasses.field(default_factory=dict)
    """InferenceRoute -> its entry in the router's ConfigMap."""
    available: bool = False
    answers: bool = False
    trouble: str | None = None
    keys: Mapping[str, KeyProblem] = dataclasses.field(default_factory=dict)
    """Service, or route after contract.ROUTE_KEYS -> problem with its API keys."""
    foreign: set[str] = dataclasses.field(default_factory=set)
    """Names of pods that have the router's labels, and are none of its pods."""

    def listed(self, key: Key) -> RouterState:
        """Return the state of a service or route in the router."""
        of_route = key.kind == names.INFERENCE_ROUTE
        return RouterState(
            self.available,
            self.answers,
            self.trouble,
            None if of_route else self.entries.get(key.name),
            tuple(sorted(self.foreign)),
            self.keys.get(f"{contract.ROUTE_KEYS}{key.name}" if of_route else key.name),
        )

    def feed_pod(self, name: str, *, foreign: bool) -> Change | None:
        """Note whether a pod with the router's labels is foreign; None if that changes nothing."""
        if foreign == (name in self.foreign):
            return None
        if foreign:
            self.foreign.add(name)
        else:
            self.foreign.discard(name)
        return Change(readiness=True)

    def feed(self, child: Child, *, gone: bool) -> Change | None:
        """Store one of the router's objects; None if that changes nothing."""
        before = self.children.get(child.ref)
        if (not gone and before == child) or (gone and before and before.uid != child.uid):
            return None
        self.children.pop(child.ref, None)
        if not gone:
            self.children[child.ref] = child
        match child.ref.kind:
            case "ConfigMap":
                return self._feed_configuration()
            case "Deployment":
                return self._feed_deployment(child, gone=gone)
            case "Lease":
                return self._feed_report(child, gone=gone)
            case _:
                return Change()

    def _feed_configuration(self) -> Change:
        before = self.entries
        self.entries, self.routes = self._configured("services"), self._configured("routes")
        changed = {
            name for name in {*before, *self.entries} if before.get(name) != self.entries.get(name)
        }
        return Change(services=frozenset(changed), routes=True)

    def _configured(self, kind: str) -> Mapping[str, Manifest]:
        """Return all entries of the configuration and its parts; an earlier part that still exists has none."""
        main = self._text(contract.ROUTER_NAME)
        texts = [main, *(self._text(name) for name in router_config.parts(main))]
        return {
            name: entry
            for text in texts
            for name, entry in router_config.entries(text, part=kind).items()
        }

    def _text(self, name: str) -> str:
        found = (
            child.manifest.get("data", {}).get(contract.ROUTER_CONFIG_KEY, "")
            for ref, child in self.children.items()
            if ref.kind == "ConfigMap" and ref.name == name
        )
        return next(found, "")

    def _feed_deployment(self, child: Child, *, gone: bool) -> Change:
        before = self.available, self.answers, self.trouble
        status = {} if gone else child.status
        self.available, self.answers = router_config.readiness(child.manifest, status)
        self.trouble = None if gone else child.trouble
        return Change(readiness=before != (self.available, self.answers, self.trouble))

    def _feed_report(self, child: Child, *, gone: bool) -> Change:
        before = self.keys
        annotations = child.manifest["metadata"].get("annotations") or {}
        self.keys = {} if gone else key_problems.parse(annotations.get(contract.KEYS_ANNOTATION))
        reported = {*before, *self.keys}
        changed = {name for name in reported if before.get(name) != self.keys.get(name)}
        routes = {name for name in changed if name.startswith(contract.ROUTE_KEYS)}
        return Change(services=frozenset(changed - routes), routes=bool(routes))


def is_of_router(child: Child) -> bool:
    """Whether the object belongs to a router, which no service owns alone."""
    labels = child.manifest["metadata"].get("labels", {})
    return bool(labels.get(names.COMPONENT_LABEL) == names.ROUTER_COMPONENT)
