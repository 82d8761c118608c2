"""ModelBuild as the services of its namespace see it."""

from collections.abc import Mapping
from typing import Any, Final

from slipstream_operator.core.observed import BuildView, Manifest, Parent
from slipstream_operator.names import Condition, Reason

PREFIX: Final = "build://"


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
        onnx=_exports(parent.spec.get("steps")),
    )


def _exports(steps: object) -> bool:
    last = steps[-1] if isinstance(steps, list) and steps else None
    return isinstance(last, Mapping) and last.get("export") is not None


def names_in(spec: Manifest) -> set[str]:
    """Return the names of the builds that the spec of a service uses."""
    model, speculation = spec.get("model"), spec.get("speculation")
    uris: list[object] = []
    if isinstance(model, Mapping):
        uris.append(model.get("uri"))
        adapters = model.get("adapters")
        uris += [one.get("uri") for one in adapters or () if isinstance(one, Mapping)]
    if isinstance(speculation, Mapping):
        uris.append(speculation.get("draft"))
    return {
        uri.removeprefix(PREFIX) for uri in uris if isinstance(uri, str) and uri.startswith(PREFIX)
    }
