"""The disk of offloaded blocks stays below its limit, and keeps the newest."""

import os
from pathlib import Path

from slipstream_runtime.engine.offload import Pruner

SIZE = 1000


def write(folder: Path, count: int, *, suffix: str = ".bin") -> list[Path]:
    """Blocks in folders as vLLM nests them, each written a second after the one before."""
    blocks = []
    for number in range(count):
        block = folder / f"model_r0/{number:03}/00_g0/{number}{suffix}"
        block.parent.mkdir(parents=True)
        block.write_bytes(bytes(SIZE))
        os.utime(block, (number, number))
        blocks.append(block)
    return blocks


def test_below_the_limit_nothing_is_deleted_and_an_empty_disk_has_time(tmp_path: Path) -> None:
    blocks = write(tmp_path, 8)
    Pruner(tmp_path, limit=10 * SIZE).prune()
    assert all(block.exists() for block in blocks)
    assert Pruner(tmp_path, limit=10**12).prune() == 30


def test_a_disk_that_is_nearly_full_loses_its_oldest_blocks(tmp_path: Path) -> None:
    blocks = write(tmp_path, 9)
    assert Pruner(tmp_path, limit=10 * SIZE).prune() == 1
    assert [block.exists() for block in blocks] == [False] * 2 + [True] * 7


def test_a_block_that_is_being_written_is_counted_and_left_alone(tmp_path: Path) -> None:
    writing = write(tmp_path, 9, suffix=".bin_7.tmp")
    Pruner(tmp_path, limit=10 * SIZE).prune()
    assert all(block.exists() for block in writing)


def test_a_folder_that_vllm_has_not_made_yet_is_empty(tmp_path: Path) -> None:
    assert Pruner(tmp_path / "none", limit=SIZE).prune() == 1
