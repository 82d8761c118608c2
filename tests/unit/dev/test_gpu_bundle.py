"""The bundle for machines with a GPU: code for one GPU alone, what the lock pins, and a size that can be carried."""

import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from dev import paths
from dev.errors import DevError
from dev.gpu import bundle, fatbin


def entry(kind: int, architecture: int, payload: bytes) -> bytes:
    """As cuobjdump reads it: a header of 64 bytes, then the code."""
    header = struct.pack("<HHIQIIHHI", kind, 0, 64, len(payload), 0, 0, 0, 0, architecture)
    return header.ljust(64, b"\x01") + payload


def container(*entries: bytes) -> bytes:
    content = b"".join(entries)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(content)) + content


def library(*containers: bytes) -> bytes:
    return b"\x7fELF host code " + b" between ".join(containers) + b" symbols"


def test_code_for_other_gpus_is_zeroed_and_nothing_moves() -> None:
    before = library(
        container(entry(2, 80, b"ampere"), entry(2, 90, b"hopper"), entry(1, 90, b"text90")),
        container(entry(2, 100, b"blackwell")),
    )
    pruned = fatbin.prune(before, architectures={90})
    assert len(pruned.content) == len(before)
    assert pruned.content == before.replace(b"ampere", bytes(6)).replace(
        b"text90", bytes(6)
    ).replace(b"blackwell", bytes(9))
    assert pruned.kept == {"sm_90": 6}
    assert pruned.zeroed == {"sm_80": 6, "compute_90": 6, "sm_100": 9}


def test_where_the_gpu_has_no_code_the_newest_text_that_it_can_compile_is_kept() -> None:
    before = library(
        container(
            entry(1, 75, b"text75"),
            entry(2, 80, b"ampere"),
            entry(1, 80, b"text80"),
            entry(1, 100, b"text100"),
        )
    )
    pruned = fatbin.prune(before, architectures={90})
    assert pruned.kept == {"compute_80": 6}
    assert b"text80" in pruned.content
    assert b"text75" not in pruned.content
    assert b"text100" not in pruned.content


@pytest.mark.parametrize(
    "broken",
    [
        b"no container at all",
        library(struct.pack("<I", 0xBA55ED50)),
        library(struct.pack("<IHHQ", 0xBA55ED50, 1, 16, 10**9)),
        library(struct.pack("<IHHQ", 0xBA55ED50, 7, 16, 4) + b"code"),
        library(container(struct.pack("<HHIQIIHHI", 99, 0, 64, 0, 0, 0, 0, 0, 90).ljust(64))),
    ],
)
def test_bytes_that_only_look_like_code_are_left_alone(broken: bytes) -> None:
    assert fatbin.prune(broken, architectures={90}).content == broken


def test_the_lock_pins_every_package_of_the_bundle_by_hash() -> None:
    pins = bundle.pins(bundle.LOCK.read_text(), bundle.names())
    blocks = [block for block in pins.split("\n") if block and not block.startswith(" ")]
    assert [block.partition("==")[0] for block in blocks] == bundle.names()
    assert pins.count("--hash=sha256:") >= len(blocks)


def test_a_package_that_the_lock_lacks_is_named() -> None:
    with pytest.raises(DevError, match="pins no nothing-such"):
        bundle.pins(bundle.LOCK.read_text(), ["vllm", "nothing-such"])


def test_a_bundle_that_is_too_large_beside_the_tracked_files_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "bundle.tar.xz"
    archive.write_bytes(bytes(1000))
    carried = bundle.check(archive)
    assert bundle.check(archive, limit=carried) == carried
    with pytest.raises(DevError, match="more than"):
        bundle.check(archive, limit=carried - 1)


def test_the_tracked_files_leave_room_for_the_bundle() -> None:
    """The archive of vLLM 0.32 has 44 MiB; `make gpu-bundle` checks the archive that it makes."""
    nothing = Path("/dev/null")
    assert bundle.check(nothing) < bundle.LIMIT - 45 * 2**20


def test_an_archive_unpacks_to_the_folder_that_is_imported_from(tmp_path: Path) -> None:
    site = tmp_path / "made" / "site"
    (site / "package").mkdir(parents=True)
    (site / "package" / "__init__.py").write_text("VALUE = 1\n")
    archive = tmp_path / "bundle.tar.xz"
    bundle.write(site, archive)
    first = archive.read_bytes()
    bundle.write(site, archive)
    assert archive.read_bytes() == first, "equal content is an equal archive"
    found = bundle.unpack(archive, tmp_path / "there")
    assert (found / "package" / "__init__.py").read_text() == "VALUE = 1\n"
    with tarfile.open(archive) as tar:
        assert {member.mtime for member in tar} == {0}


def test_the_check_finds_the_packages_of_the_bundle_before_it_needs_them(tmp_path: Path) -> None:
    """Up to the start of the check nothing is imported but what Python itself brings."""
    site = tmp_path / "made" / "site"
    site.mkdir(parents=True)
    (site / "sitecustomize.py").write_text("raise SystemExit('from the bundle')\n")
    archive = tmp_path / "bundle.tar.xz"
    bundle.write(site, archive)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _ALONE, str(archive)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "from the bundle" in done.stderr, done.stderr


_ALONE = (
    f"import runpy, sys; sys.path.append({str(paths.REPOSITORY)!r}); "
    "sys.argv = ['dev.gpu', '--bundle', sys.argv[1], '--help']; runpy.run_module('dev.gpu', run_name='__main__')"
)
