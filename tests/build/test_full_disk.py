"""Artifacts on a disk that fills up: nothing half-written is visible, and the next run goes on."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipstream_runtime import contract
from slipstream_runtime.build import command
from slipstream_runtime.build.progress import Progress
from tests.support import builds


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_publication_that_fills_the_disk_is_finished_by_the_next_run(
    small: Path, tmp_path: Path
) -> None:
    recipe = builds.finished(tmp_path / "build", output={"uri": f"file://{small}/tiny"})
    other = small / "other"
    other.write_bytes(bytes(14_000))
    config, log = tmp_path / "build.json", tmp_path / "termination-log"
    config.write_text(recipe.model_dump_json(by_alias=True, exclude_none=True, exclude_unset=True))

    def publish() -> int:
        progress = Progress("publish", clock=time.monotonic)
        return command.stage(config, "publish", progress=progress, termination_log=log)

    assert publish() == 1
    assert "publish: the disk is full. Use a larger claim in spec.output" in log.read_text()
    assert not (small / "tiny").exists()
    other.unlink()
    assert publish() == 0, log.read_text()
    assert (small / "tiny" / contract.BUILD_MANIFEST).is_file()
    assert [path.name for path in small.iterdir()] == ["tiny"]
