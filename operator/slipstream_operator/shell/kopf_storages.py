"""kopf's storages, disabled: only its high-level handlers need them, and the operator has none.

kopf builds the essence of every object at every event. Its default copies the whole body several times, which took
half of the operator's CPU.
"""

from typing import Any

import kopf


class NoDiffBase(kopf.DiffBaseStorage):
    """Storage in which every object's essence is empty."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        """Return an empty essence."""
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> None:
        """Return nothing."""

    def store(self, **_: Any) -> None:
        """Write nothing."""


class NoProgress(kopf.ProgressStorage):
    """Storage without a history of handlers."""

    def fetch(self, **_: Any) -> None:
        """Return nothing."""

    def store(self, **_: Any) -> None:
        """Write nothing."""

    def purge(self, **_: Any) -> None:
        """Remove nothing."""

    def touch(self, **_: Any) -> None:
        """Write nothing."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        """Return the essence unchanged."""
        return essence
