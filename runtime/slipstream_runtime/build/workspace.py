"""Working folder of a build: finished checkpoints, and a record of each finished stage.

A folder or file with its final name is complete and on the disk. All others are what a killed run left.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pydantic

from slipstream_runtime import contract
from slipstream_runtime.errors import EngineError, UnsuitableError
from slipstream_runtime.part import Part

_OWNER: Final = "owner.json"


class Entry(Part):
    """Size and hash of one file of a checkpoint."""

    bytes: int
    sha256: str


class Record(Part):
    """Result of a finished stage."""

    stage: str
    folder: Path | None = None
    """Folder of the checkpoint that the stage made or found."""
    files: dict[str, Entry] = pydantic.Field(default_factory=dict)
    facts: dict[str, Any] = pydantic.Field(default_factory=dict)
    """Facts for the manifest and for later stages."""
    report: dict[str, Any] = pydantic.Field(default_factory=dict)
    """Report in the termination message, which a restarted container leaves again."""
    modified: dict[str, int] = pydantic.Field(default_factory=dict)
    """File -> time of its last change, in nanoseconds. Only files with another time are hashed again."""

    @property
    def bytes(self) -> int:
        """Bytes of the checkpoint."""
        return sum(entry.bytes for entry in self.files.values())

    def is_present(self) -> bool:
        """Whether the files are there and still the same ones.

        A volume may be lost while the other with the record is kept, and a folder of a claim may be written to.
        """
        try:
            return all(self._is_same(name) for name in self.files)
        except OSError:
            return False

    def is_changed(self) -> bool:
        """Whether the files are there, but not the same ones."""
        folder = self.folder
        if folder is None or not all((folder / name).is_file() for name in self.files):
            return False
        return not self.is_present()

    def stamped(self) -> "Record":
        """Return the record with the times of its files."""
        folder = self.folder
        if folder is None:
            return self
        times = {name: (folder / name).stat().st_mtime_ns for name in self.files}
        return self.model_copy(update={"modified": times})

    def _is_same(self, name: str) -> bool:
        assert self.folder is not None
        found, entry = (self.folder / name).stat(), self.files[name]
        if found.st_size != entry.bytes:
            return False
        if found.st_mtime_ns == self.modified.get(name, found.st_mtime_ns):
            return True
        return entries(self.folder, [name])[name] == entry


@dataclass(frozen=True)
class Workspace:
    """Folder of one build."""

    root: Path

    def claim(self, owner: Mapping[str, str]) -> None:
        """Make the folder this build's; UnsuitableError if it holds another build."""
        path = self.root / _OWNER
        with contextlib.suppress(FileNotFoundError, ValueError):
            found = json.loads(path.read_text())
            if found == owner:
                return
            other = found.get("name") if isinstance(found, dict) else None
            raise UnsuitableError(
                f'work: "{self.root}" can\'t work because it holds another build{f", {other}" if other else ""}. '
                "Use an empty folder."
            )
        self.root.mkdir(parents=True, exist_ok=True)
        write(path, json.dumps(owner))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from the folder until the end of the block; EngineError if one has it."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise EngineError(
                    f"work: another process runs this build in {self.root}. Wait for its end, or stop it."
                ) from error
            yield

    def forget_former(self, name: str) -> None:
        """Delete the folders of deleted ModelBuilds of this name in the same claim, with their checkpoints."""
        if not self.root.name.startswith(contract.BUILD_FOLDER):
            return
        for folder in self.root.parent.glob(f"{contract.BUILD_FOLDER}*"):
            if folder == self.root:
                continue
            # NB: a folder in use belongs to a build of the same name in another namespace, or to a pod that still ends.
            with contextlib.suppress(OSError, ValueError, EngineError):
                owner = json.loads((folder / _OWNER).read_text())
                if isinstance(owner, dict) and owner.get("name") == name:
                    with Workspace(folder).locked():
                        shutil.rmtree(folder, ignore_errors=True)

    def record(self, stage: str) -> Record | None:
        """Return the record of a finished stage whose checkpoint is still there."""
        found = self._read(stage)
        return found if found is not None and found.is_present() else None

    def former(self, stage: str) -> Record | None:
        """Return the record of a finished stage, whether or not its checkpoint is still the same."""
        return self._read(stage)

    def report(self, stage: str) -> dict[str, Any] | None:
        """Return the report of a finished stage, whether or not its checkpoint is still there."""
        found = self._read(stage)
        return found.report if found is not None else None

    def keep(self, record: Record) -> None:
        """Write the record of a finished stage."""
        self._record(record.stage).parent.mkdir(parents=True, exist_ok=True)
        write(
            self._record(record.stage),
            record.stamped().model_dump_json(by_alias=True, indent=1),
        )

    def checkpoint(self, stage: str) -> Path:
        """Return the folder of a step's finished checkpoint."""
        return self.root / "steps" / stage

    @contextlib.contextmanager
    def new_checkpoint(self, stage: str) -> Iterator[Path]:
        """Give an empty folder, which gets its final name at the end of the block."""
        final = self.checkpoint(stage)
        part = final.with_name(f".{stage}.part")
        for left in (part, final):
            shutil.rmtree(left, ignore_errors=True)
        part.mkdir(parents=True)
        yield part
        flush(part)
        part.rename(final)
        flush_folder(final.parent)

    def training(self, stage: str) -> Path:
        """Return the folder of checkpoints inside a step."""
        folder = self.root / "training" / stage
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def forget_training(self, stage: str) -> None:
        """Delete the checkpoints inside a step."""
        shutil.rmtree(self.root / "training" / stage, ignore_errors=True)

    @property
    def quality(self) -> Path:
        """Folder of the answers of evaluations. The source answers once for all steps."""
        return self.root / "quality"

    @property
    def layer(self) -> Path:
        """File of an image's layer before it is pushed."""
        return self.root / "layer.tar"

    def clear(self) -> None:
        """Delete everything but the records, with the downloads that lie in this folder."""
        self._delete("steps", "training", "quality", "cache")

    def start_again(self) -> None:
        """Delete the records and the results of all stages. Downloads stay."""
        self._delete("records", "steps", "training", "quality")

    def _delete(self, *names: str) -> None:
        for name in names:
            shutil.rmtree(self.root / name, ignore_errors=True)
        self.layer.unlink(missing_ok=True)

    def _read(self, stage: str) -> Record | None:
        try:
            return Record.model_validate_json(self._record(stage).read_text())
        except (OSError, ValueError):
            return None

    def _record(self, stage: str) -> Path:
        return self.root / "records" / f"{stage}.json"


def entries(folder: Path, names: Collection[str]) -> dict[str, Entry]:
    """Return the size and the hash of each of these files."""
    found = {}
    for name in sorted(names):
        with (folder / name).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            found[name] = Entry(bytes=file.tell(), sha256=digest)
    return found


def names(folder: Path) -> list[str]:
    """Return the files of a folder, relative to it."""
    return sorted(
        Path(directory, name).relative_to(folder).as_posix()
        for directory, _, files in os.walk(folder)
        for name in files
    )


def disk_usage(folder: Path) -> int:
    """Return the bytes of the files in a folder, which need not exist. Links do not count."""
    return sum(
        file.stat().st_size
        for file in (folder / name for name in names(folder))
        if not file.is_symlink()
    )


def listing(files: Mapping[str, Entry]) -> str:
    """Return one hash over names, sizes and hashes of files."""
    lines = [f"{entry.sha256} {entry.bytes} {name}\n" for name, entry in sorted(files.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def write(path: Path, content: str) -> None:
    """Replace the file at once, and wait until the disk has it."""
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    flush_folder(path.parent)


def flush(folder: Path) -> None:
    """Wait until the disk has all files of the folder."""
    for directory, _, files in os.walk(folder):
        for name in files:
            with Path(directory, name).open("rb") as file:
                os.fsync(file.fileno())
        flush_folder(Path(directory))


def flush_folder(folder: Path) -> None:
    """Wait until the disk has the names in the folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
