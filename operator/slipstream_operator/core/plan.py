"""Plan of the changes from the observed to the desired objects. It touches only objects that Slipstream owns."""

import dataclasses
from collections.abc import Callable, Collection, Sequence

from slipstream_operator import names
from slipstream_operator.core import compare
from slipstream_operator.core.observed import Child, Manifest, Ref


@dataclasses.dataclass(frozen=True)
class Apply:
    """Application of a manifest. `uid` is None to create the object; otherwise the object must still have it."""

    ref: Ref
    manifest: Manifest
    uid: str | None
    reason: str
    drifted: bool


@dataclasses.dataclass(frozen=True)
class Delete:
    """Deletion of the object with this uid."""

    ref: Ref
    uid: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Plan:
    """Changes to make. `conflicts` are names that are taken by objects of other owners."""

    applies: tuple[Apply, ...] = ()
    deletes: tuple[Delete, ...] = ()
    conflicts: tuple[Ref, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.applies or self.deletes)


def plan(
    desired: Sequence[Manifest],
    *,
    children: Sequence[Child],
    is_ours: Callable[[Manifest], bool],
    kept_revisions: Collection[str] = (),
) -> Plan:
    """Return the plan from the children to the desired objects. `is_ours` decides by an object's metadata."""
    known = {child.ref: child for child in children}
    applies, conflicts = [], []
    for manifest in desired:
        ref = reference(manifest)
        child = known.pop(ref, None)
        if child is None:
            applies.append(Apply(ref, manifest, None, "missing", drifted=False))
        elif not is_ours(child.manifest["metadata"]):
            conflicts.append(ref)
        elif not child.deleting and (step := _correction(ref, manifest, child)):
            applies.append(step)
    deletes = [
        Delete(child.ref, child.uid, "no longer desired")
        for child in known.values()
        if is_ours(child.manifest["metadata"])
        and not child.deleting
        and child.revision not in kept_revisions
    ]
    return Plan(tuple(applies), tuple(deletes), tuple(conflicts))


def controlled_by(uid: str) -> Callable[[Manifest], bool]:
    """Return the predicate for objects whose controlling owner has this uid."""

    def is_ours(metadata: Manifest) -> bool:
        owners = metadata.get("ownerReferences", [])
        return any(owner.get("controller") and owner["uid"] == uid for owner in owners)

    return is_ours


def labelled(labels: Manifest) -> Callable[[Manifest], bool]:
    """Return the predicate for objects with these labels, which no single owner controls."""

    def is_ours(metadata: Manifest) -> bool:
        found = metadata.get("labels", {})
        return all(found.get(key) == value for key, value in labels.items())

    return is_ours


def reference(manifest: Manifest) -> Ref:
    """Return kind, namespace and name of a manifest."""
    metadata = manifest["metadata"]
    return Ref(manifest["kind"], metadata["namespace"], metadata["name"])


def _correction(ref: Ref, manifest: Manifest, child: Child) -> Apply | None:
    annotations = child.manifest["metadata"].get("annotations", {})
    wanted = manifest["metadata"]["annotations"][names.APPLIED_ANNOTATION]
    if annotations.get(names.APPLIED_ANNOTATION) != wanted:
        return Apply(ref, manifest, child.uid, "changed", drifted=False)
    path = compare.difference(manifest, child.manifest)
    if path is None:
        return None
    return Apply(ref, manifest, child.uid, f"{path} was edited", drifted=True)
