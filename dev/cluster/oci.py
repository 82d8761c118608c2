"""OCI image archives, written directly: no registry, no builder, the same bytes each time."""

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_EPOCH = "1970-01-01T00:00:00Z"
_MEDIA = "application/vnd.oci.image"


@dataclass
class Layer:
    """Files by absolute path; links and folders with them."""

    files: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    folders: dict[str, int] = field(default_factory=dict)

    def add(self, path: str, content: bytes, *, mode: int = 0o644) -> None:
        self.files[path] = (content, mode)

    def pack(self) -> bytes:
        """The layer as an uncompressed archive; parents come before what lies in them."""
        folders = dict(self.folders)
        for path in (*self.files, *self.links, *self.folders):
            for parent in Path(path).parents:
                if str(parent) != "/":
                    folders.setdefault(str(parent), 0o755)
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for path in sorted({*folders, *self.files, *self.links}):
                entry = tarfile.TarInfo(path.lstrip("/"))
                if path in self.files:
                    content, entry.mode = self.files[path]
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))
                elif path in self.links:
                    entry.type, entry.linkname = tarfile.SYMTYPE, self.links[path]
                    archive.addfile(entry)
                else:
                    entry.type, entry.mode = tarfile.DIRTYPE, folders[path]
                    archive.addfile(entry)
        return buffer.getvalue()


def write(
    target: Path, *, name: str, layers: Sequence[Layer], config: Mapping[str, object]
) -> None:
    """Write the archive of one image under its full name; complete or not at all."""
    blobs: dict[str, bytes] = {}

    def descriptor(media: str, content: bytes) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[digest] = content
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(content)}

    stored = [descriptor(f"{_MEDIA}.layer.v1.tar", layer.pack()) for layer in layers]
    image = {
        "architecture": _architecture(),
        "os": "linux",
        "created": _EPOCH,
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [entry["digest"] for entry in stored]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_MEDIA}.manifest.v1+json",
        "config": descriptor(f"{_MEDIA}.config.v1+json", _json(image)),
        "layers": stored,
    }
    names = {
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": name.rpartition(":")[2],
    }
    entry = descriptor(f"{_MEDIA}.manifest.v1+json", _json(manifest)) | {"annotations": names}
    partial = target.with_suffix(".partial")
    with tarfile.open(partial, mode="w") as archive:
        _append(archive, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _append(archive, "index.json", _json({"schemaVersion": 2, "manifests": [entry]}))
        for digest, content in blobs.items():
            _append(archive, f"blobs/sha256/{digest}", content)
    partial.rename(target)


def _append(archive: tarfile.TarFile, path: str, content: bytes) -> None:
    entry = tarfile.TarInfo(path)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def _json(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _architecture() -> str:
    machine = platform.machine()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
