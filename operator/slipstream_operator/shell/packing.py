"""Compact storage of thousands of objects."""

from slipstream_operator.core import observed
from slipstream_operator.core.observed import Manifest, Packed


class Packer:
    """Keeps of each manifest how it differs from the first of its sort: most of what services say is alike."""

    def __init__(self) -> None:
        self._first: dict[str, bytes] = {}

    def pack(self, manifest: Manifest, *, sort: str) -> Packed:
        """Equal manifests of a sort are equal when they are packed."""
        if manifest and sort not in self._first:
            self._first[sort] = observed.text(manifest)
        return observed.pack(manifest, like=self._first.get(sort, b""))
