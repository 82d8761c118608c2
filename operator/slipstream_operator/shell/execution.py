"""Execution of a plan: applies in order, then deletions. Conflicts are reported and never forced."""

from collections.abc import Callable

from slipstream_operator import errors, ports
from slipstream_operator.core import plan
from slipstream_operator.core.observed import Manifest, Ref
from slipstream_operator.telemetry import Telemetry

IsOurs = Callable[[Manifest], bool]


async def execute(
    steps: plan.Plan,
    *,
    cluster: ports.Cluster,
    telemetry: Telemetry,
    is_ours: IsOurs,
    dependent: Ref | None = None,
) -> tuple[list[Ref], list[str]]:
    """Execute the plan; return conflicting objects of other owners, and refusals of the API server.

    While there are any, nothing is deleted. The object `dependent` is then not applied, if they come before it.
    """
    conflicts = list(steps.conflicts)
    failures: list[str] = []
    for step in steps.applies:
        if step.ref == dependent and (conflicts or failures):
            continue
        try:
            if not await _apply(step, cluster=cluster, is_ours=is_ours):
                conflicts.append(step.ref)
                continue
            telemetry.applied_objects.labels(step.ref.kind).inc()
        except (errors.Rejected, errors.KindMissing) as error:
            failures.append(f"{step.ref} could not be applied: {error}")
    if not (conflicts or failures):
        for deletion in steps.deletes:
            await cluster.delete(deletion.ref, uid=deletion.uid)
            telemetry.deleted_objects.labels(deletion.ref.kind).inc()
    return conflicts, failures


async def _apply(step: plan.Apply, *, cluster: ports.Cluster, is_ours: IsOurs) -> bool:
    """Apply one object; False if its name belongs to another owner's object."""
    if step.uid is not None:
        await cluster.apply(step.ref, step.manifest, uid=step.uid)
        return True
    return await create(step.ref, step.manifest, cluster=cluster, is_ours=is_ours)


async def create(ref: Ref, manifest: Manifest, *, cluster: ports.Cluster, is_ours: IsOurs) -> bool:
    """Create the object; False if another owner's object has its name.

    True if our own object exists, whose watch event is still to arrive.
    """
    try:
        await cluster.create(ref, manifest)
    except errors.Conflict:
        return is_ours(await cluster.metadata_of(ref))
    return True
