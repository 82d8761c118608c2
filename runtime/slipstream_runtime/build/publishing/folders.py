"""Artifacts in a folder of a claim or of this machine: written to a hidden sibling, which is renamed when whole."""

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
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
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(self.path) and (not self.path.is_dir() or any(self.path.iterdir())):
                raise self._unusable("it holds other files")
            if self.path.is_symlink() or self.path.is_mount():
                raise self._unusable("it is a link, or a mounted volume, which can't be replaced")
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise self._unusable("its name is too long for the file system") from error
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
        digest = hashlib.sha256(f"{self.path.name} {text}".encode()).hexdigest()[:24]
        part = self.path.with_name(f".slipstream-{digest}.part")
        part.mkdir(exist_ok=True)
        with self._alone(part):
            _empty(part)
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
                raise self._unusable("something was written there during the build") from error
        workspace.flush_folder(self.path.parent)
        return self.published()

    @contextlib.contextmanager
    def _alone(self, part: Path) -> Iterator[None]:
        """Keep other builds of the same artifact from its hidden folder; EngineError if one writes it."""
        descriptor = os.open(part, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if not _locked(descriptor) or not part.exists():
                raise EngineError(
                    f'spec.output: "{self.uri}" is being written by another build. The next run compares both.'
                )
            yield
        finally:
            os.close(descriptor)

    def _unusable(self, why: str) -> UnsuitableError:
        return UnsuitableError(
            f'spec.output: "{self.uri}" can\'t work because {why}. Use another path.'
        )

    def published(self) -> place.Published:
        """Return the address."""
        return place.Published(self.uri)

    def _refused(self, error: OSError) -> EngineError:
        return EngineError(
            f'spec.output: "{self.uri}" can\'t be written: {error.strerror}: {error.filename}. Mount the claim with '
            "write access, or use another path."
        )


def _locked(descriptor: int) -> bool:
    """Lock a folder; return whether no other process has it. File systems without locks lock nothing."""
    with contextlib.suppress(OSError):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _empty(folder: Path) -> None:
    """Delete what a killed run left in the folder."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _copy(source: Path, target: Path) -> None:
    """Link the file where the file system can, so that it takes no more room, else copy it."""
    try:
        target.hardlink_to(source.resolve())
    except OSError:
        shutil.copyfile(source, target)
