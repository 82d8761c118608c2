"""Artifacts in a folder of a claim or of this machine: written to a hidden sibling, which is renamed when whole."""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from slipstream_runtime import contract
from slipstream_runtime.build import manifest, workspace
from slipstream_runtime.build.manifest import Manifest
from slipstream_runtime.build.publishing import place
from slipstream_runtime.errors import EngineError, UnsuitableError


@dataclass(frozen=True)
class Folder:
    """Folder of `pvc://` or `file://`."""

    uri: str
    path: Path

    def existing(self) -> Manifest | None:
        """Return the manifest in the folder, after a check that it can be written."""
        found = self.path / contract.BUILD_MANIFEST
        try:
            if found.is_file():
                return manifest.parse(found.read_bytes(), place=self.uri)
            if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
                raise UnsuitableError(
                    f'spec.output: "{self.uri}" can\'t work because it holds other files. Use another path.'
                )
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._refused(error) from error
        if not os.access(self.path.parent, os.W_OK | os.X_OK):
            raise UnsuitableError(
                f"spec.output: \"{self.uri}\" can't work because user {os.getuid()} can't write to {self.path.parent}. "
                f"Make that user its owner, or give group {os.getgid()} write permission."
            )
        return None

    def write(self, folder: Path, made: Manifest, count: place.Count) -> place.Published:
        """Write the artifact."""
        text = made.text()
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        part = self.path.with_name(f".{self.path.name}.{digest}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        for name in place.files(made):
            target = part / name
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy(folder / name, target)
            count(made.files[name].bytes)
        (part / contract.BUILD_MANIFEST).write_text(text, encoding="utf-8")
        workspace.flush(part)
        try:
            part.rename(self.path)
        except OSError as error:
            raise UnsuitableError(
                f'spec.output: "{self.uri}" can\'t work because something was written there during the build. Use '
                "another path."
            ) from error
        workspace.flush_folder(self.path.parent)
        return self.published()

    def published(self) -> place.Published:
        """Return the address."""
        return place.Published(self.uri)

    def _refused(self, error: OSError) -> EngineError:
        return EngineError(
            f'spec.output: "{self.uri}" can\'t be written: {error.strerror}: {error.filename}. Mount the claim with '
            "write access, or use another path."
        )


def _copy(source: Path, target: Path) -> None:
    """Link the file where the file system can, so that it takes no more room, else copy it."""
    try:
        target.hardlink_to(source.resolve())
    except OSError:
        shutil.copyfile(source, target)
