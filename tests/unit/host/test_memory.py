"""Memory of a container: kills for want of it, its limit, and shared memory that dead processes left."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slipstream_runtime.machine import memory

VERSION_2 = "low 0\nhigh 0\nmax 7\noom 1\noom_kill 3\noom_group_kill 0\n"
VERSION_1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"


@pytest.mark.parametrize(
    ("name", "text", "kills"),
    [
        ("memory.events", VERSION_2, 3),
        ("memory/memory.oom_control", VERSION_1, 2),
        ("memory.events", "low 0\n", None),
        ("memory.events", "oom_kill many\n", None),
        ("other", "", None),
    ],
)
def test_the_kernel_counts_kills_for_want_of_memory(
    tmp_path: Path, name: str, text: str, kills: int | None
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    assert memory.kills(tmp_path) == kills


def test_shared_memory_of_a_dead_engine_is_cleared_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "psm_1").write_bytes(b"a" * 5000)
    (tmp_path / "sem.mp-1").write_bytes(b"b" * 32)
    (tmp_path / "folder").mkdir()
    outside = tmp_path.parent / "outside"
    outside.write_text("kept")
    (tmp_path / "link").symlink_to(outside)
    assert memory.clear(tmp_path, owner=os.getuid()) == 5032
    assert sorted(file.name for file in tmp_path.iterdir()) == ["folder", "link"]
    assert outside.read_text() == "kept"


def test_shared_memory_of_others_stays(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b"a")
    assert memory.clear(tmp_path, owner=os.getuid() + 1) == 0
    assert (tmp_path / "theirs").exists()


def test_no_folder_is_nothing_to_clear(tmp_path: Path) -> None:
    assert memory.clear(tmp_path / "none", owner=os.getuid()) == 0


def test_the_peak_of_a_process_does_not_count_what_its_parent_had(tmp_path: Path) -> None:
    held = b"x" * 200 * 2**20
    code = "from slipstream_runtime.machine import memory; print(memory.peak())"
    found = int(
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    )
    assert 2**20 < found < len(held)
    assert memory.peak() > len(held)
    assert memory.peak(tmp_path / "missing") > len(held)
