"""Fields of a ModelBuild in messages of modules that also serve an InferenceService. Pure."""

from collections.abc import Mapping
from typing import Final

_FIELDS: Final[Mapping[str, str]] = {
    "spec.model.uri": "spec.source",
    "spec.model.credentials": "spec.credentials",
    "spec.model.tokenSecret": "spec.tokenSecret",
    "spec.cache.model.claim": "spec.workspace.claim",
    "spec.cache.model": "spec.workspace.claim",
}
"""Field of an InferenceService -> field of a ModelBuild with the same meaning, longer names first."""


def percent(share: float) -> str:
    """Return a share as a user writes it, such as 12.5%."""
    return f"{100 * share:.6g}%"


def of_build(text: str) -> str:
    """Return the message with the fields of a ModelBuild."""
    for one, other in _FIELDS.items():
        text = text.replace(one, other)
    return text
