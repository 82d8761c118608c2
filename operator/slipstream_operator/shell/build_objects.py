"""Objects of each ModelBuild, as the watches report them."""

import dataclasses
from collections.abc import Collection, Iterable, Mapping

from slipstream_operator.core.builds import view
from slipstream_operator.core.observed import Builder, BuildView, Child, Key, Parent, Ref


@dataclasses.dataclass(slots=True)
class BuildObjects:
    """The ModelBuild, its children and its pods."""

    parent: Parent | None = None
    view: BuildView | None = None
    children: dict[Ref, Child] = dataclasses.field(default_factory=dict)
    pods: dict[str, Builder] = dataclasses.field(default_factory=dict)


class BuildIndex:
    """Objects of all ModelBuilds, by namespace and name."""

    def __init__(self) -> None:
        self._builds: dict[str, dict[str, BuildObjects]] = {}

    def get(self, key: Key) -> BuildObjects | None:
        """Return the build's objects; None if there are none."""
        return self._builds.get(key.namespace, {}).get(key.name)

    def all_keys(self) -> Iterable[Key]:
        """Return the keys of all builds."""
        for builds in self._builds.values():
            yield from (build.parent.key for build in builds.values() if build.parent is not None)

    def views(self, namespace: str, names: Collection[str]) -> Mapping[str, BuildView]:
        """Return the builds of a namespace with these names, as its services see them."""
        builds = self._builds.get(namespace, {})
        found = {name: builds[name].view for name in names if name in builds}
        return {name: seen for name, seen in found.items() if seen is not None}

    def feed(self, parent: Parent, *, gone: bool) -> tuple[bool, bool]:
        """Store the ModelBuild; return whether it changed, and whether its view did."""
        build = self._of(parent.key.namespace, parent.key.name)
        before, seen = build.parent, build.view
        if gone and before is not None and before.uid != parent.uid:
            return False, False
        build.parent = None if gone else parent
        build.view = None if gone or parent.deleting else view.view(parent)
        changes = before != build.parent, seen != build.view
        self._prune(parent.key.namespace, parent.key.name)
        return changes

    def feed_child(self, name: str, child: Child, *, gone: bool) -> bool:
        """Store a child; return whether it changed."""
        children = self._of(child.ref.namespace, name).children
        known = children.get(child.ref)
        changed = known != child if not gone else known is not None and known.uid == child.uid
        if changed:
            children.pop(child.ref, None)
        if changed and not gone:
            children[child.ref] = child
        self._prune(child.ref.namespace, name)
        return changed

    def feed_pod(self, pod: Builder, *, gone: bool) -> bool:
        """Store a pod; return whether it changed."""
        pods = self._of(pod.namespace, pod.build).pods
        before = pods.pop(pod.name, None)
        if not gone:
            pods[pod.name] = pod
        self._prune(pod.namespace, pod.build)
        return before != (None if gone else pod)

    def _of(self, namespace: str, name: str) -> BuildObjects:
        return self._builds.setdefault(namespace, {}).setdefault(name, BuildObjects())

    def _prune(self, namespace: str, name: str) -> None:
        if self._of(namespace, name) == BuildObjects():
            del self._builds[namespace][name]
            if not self._builds[namespace]:
                del self._builds[namespace]
