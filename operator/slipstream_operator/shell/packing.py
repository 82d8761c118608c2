"""What is kept of thousands of objects, in little memory."""

from slipstream_operator import names
from slipstream_operator.core import observed
from slipstream_operator.core.observed import Manifest, Packed


class Packer:
    """Keeps of each manifest how it differs from the first of its kind: most of what services say is alike."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, str], bytes] = {}
        """By kind and component."""

    def pack(self, manifest: Manifest) -> Packed:
        """Equal manifests are equal when they are packed."""
        labels = manifest.get("metadata", {}).get("labels", {})
        kind = manifest["kind"], labels.get(names.COMPONENT_LABEL, "")
        if kind not in self._first:
            self._first[kind] = observed.text(manifest)
        return observed.pack(manifest, like=self._first[kind])
