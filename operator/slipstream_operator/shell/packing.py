"""Compact storage of thousands of objects."""

from slipstream_operator.core import observed
from slipstream_operator.core.observed import Manifest, Packed


class Packer:
    """Stores each manifest as a diff against the first of its kind: most manifests of a kind are alike."""

    def __init__(self) -> None:
        self._first: dict[str, bytes] = {}

    def pack(self, manifest: Manifest, *, kind: str) -> Packed:
        """Pack the manifest. Equal manifests of a kind have equal packed forms."""
        if manifest and kind not in self._first:
            self._first[kind] = observed.text(manifest)
        return observed.pack(manifest, like=self._first.get(kind, b""))
