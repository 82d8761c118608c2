"""Services that name ModelBuilds, by build, so that a change of a build visits no other service."""

from slipstream_operator.core import build_sources
from slipstream_operator.core.observed import Key, Parent


class BuildUsers:
    """Services of all namespaces whose sources are builds."""

    def __init__(self) -> None:
        self._users: dict[tuple[str, str], set[Key]] = {}
        """Namespace and name of a build -> services."""
        self._named: dict[Key, tuple[str, ...]] = {}
        """Service -> names of its builds."""

    def update(self, key: Key, parent: Parent | None) -> None:
        """Store the builds that a service names; None if it is gone."""
        for name in self._named.pop(key, ()):
            users = self._users[key.namespace, name]
            users.discard(key)
            if not users:
                del self._users[key.namespace, name]
        found = tuple(sorted(set(build_sources.named(parent.spec)))) if parent is not None else ()
        if found:
            self._named[key] = found
        for name in found:
            self._users.setdefault((key.namespace, name), set()).add(key)

    def of(self, build: Key) -> list[Key]:
        """Return the services that name this build."""
        return sorted(self._users.get((build.namespace, build.name), ()))

    def named(self, key: Key) -> tuple[str, ...]:
        """Return the names of the builds that a service names."""
        return self._named.get(key, ())
