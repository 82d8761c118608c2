"""ModelBuild as the services of its namespace see it."""

from collections.abc import Mapping
from typing import Any

from slipstream_operator.core.observed import BuildView, Parent
from slipstream_operator.names import Condition, Reason


def view(parent: Parent) -> BuildView:
    """Return the view of a ModelBuild, from its status and its last step."""
    status = parent.status
    phase = str(status.get("phase") or "Pending")
    artifact: Mapping[str, Any] = status.get("artifact") or {}
    published = phase == "Ready" and bool(artifact.get("uri") and artifact.get("sha256"))
    ready = next((one for one in parent.conditions if one.type == Condition.READY), None)
    return BuildView(
        name=parent.key.name,
        phase=phase,
        artifact=artifact["uri"] if published else None,
        digest=artifact["sha256"] if published else None,
        reason=ready.reason if ready else Reason.PENDING,
        message=ready.message if ready else "The operator has not reconciled the build yet.",
        exported=_exports(parent.spec.get("steps")),
        output=_output(parent.spec.get("output")),
    )


def _exports(steps: object) -> bool:
    last = steps[-1] if isinstance(steps, list) and steps else None
    return isinstance(last, Mapping) and last.get("export") is not None


def _output(output: object) -> str | None:
    uri = output.get("uri") if isinstance(output, Mapping) else None
    return uri if isinstance(uri, str) else None
