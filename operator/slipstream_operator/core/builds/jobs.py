"""Job of a build as it was created, which later changes of the profile do not touch."""

import dataclasses
import json
from typing import Final

from slipstream_operator import names
from slipstream_operator.core.builds import recipe
from slipstream_operator.core.observed import Child, Manifest, ObservedBuild
from slipstream_runtime import contract

_FIXED: Final = (names.JOB, "ConfigMap", names.RESOURCE_CLAIM_TEMPLATE)
"""Kinds of children that stay as they were created."""


@dataclasses.dataclass(frozen=True)
class Work:
    """Work of a Job."""

    stages: tuple[str, ...]
    recipe: Manifest | None
    """None if its ConfigMap is gone, or was edited and is no JSON."""
    ephemeral: bool

    @property
    def digest(self) -> str | None:
        """Return the SHA-256 of the recipe."""
        return None if self.recipe is None else recipe.digest(self.recipe)


def work(observed: ObservedBuild, job: Child) -> Work:
    """Return the work of the build's Job."""
    pod = job.manifest["spec"]["template"]["spec"]
    containers = [*pod.get("initContainers", ()), *pod["containers"]]
    config, text = observed.child("ConfigMap"), None
    if config is not None:
        text = (config.manifest.get("data") or {}).get(contract.BUILD_FILE)
    return Work(
        stages=tuple(container["name"] for container in containers),
        recipe=_parsed(text or ""),
        ephemeral=any(
            volume["name"] == "work" and "emptyDir" in volume for volume in pod.get("volumes", ())
        ),
    )


def _parsed(text: str) -> Manifest | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def kept(observed: ObservedBuild) -> set[str]:
    """Return the kinds of children that exist and must not be changed."""
    if observed.child(names.JOB) is None:
        return set()
    return {kind for kind in _FIXED if observed.child(kind) is not None}
