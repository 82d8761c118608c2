"""`make gpu-bundle`: all that an engine needs beside PyTorch, for a GPU machine without a network.

vLLM's wheel is large because it has code for many GPUs. The bundle keeps the code of one GPU and leaves optional parts
out. Building fails if the bundle and the tracked files together exceed the limit.
"""

import argparse
import json
import lzma
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from dev import locks, paths, processes
from dev.errors import DevError
from dev.gpu import fatbin

HERE: Final = Path(__file__).parent
LOCK: Final = paths.REPOSITORY / "requirements" / "runtime-cuda.txt"
FOLDER: Final = paths.REPOSITORY / "build" / "gpu"
ARCHIVE: Final = FOLDER / "bundle.tar.xz"
LIMIT: Final = 64 * 2**20
"""Bytes that can be carried, tracked files included."""
PYTHON: Final = "3.12"
PLATFORM: Final = "x86_64-manylinux_2_34"
ARCHITECTURES: Final = frozenset({90})
"""Hopper: H100, H200 and GH200."""
PRUNED: Final = ("_C_stable_libtorch.abi3.so", "_moe_C_stable_libtorch.abi3.so")
"""Libraries of vLLM that an engine can't do without: they are kept with one GPU's code."""
LEFT_OUT: Final = (
    "*.dist-info/RECORD",
    "bin",
    "vllm/_deepselect_C.abi3.so",
    "vllm/_flashkda_C.abi3.so",
    "vllm/_flashmla_C.abi3.so",
    "vllm/_flashmla_extension_C.abi3.so",
    "vllm/_qutlass_C.abi3.so",
    "vllm/benchmarks",
    "vllm/entrypoints/serve/instrumentator/static",
    "vllm/third_party/deep_gemm",
    "vllm/third_party/fmha_sm100",
    "vllm/vllm-rs",
    "vllm/vllm_flash_attn/*.so",
)
"""Attention is Triton's instead of FlashAttention's, and block-scaled fp8 has no DeepGEMM."""
_STAND_IN: Final = "vllm/vllm_flash_attn/_vllm_fa2_C.py"
"""vLLM imports this module before it chooses another attention."""


def pins(lock: str, wanted: Sequence[str]) -> str:
    """Lines of the lock for these packages, hashes included; DevError names one that it lacks."""
    blocks = {
        match["name"].lower(): match[0].rstrip()
        for match in re.finditer(
            r"^(?P<name>[A-Za-z0-9._-]+)(?:\[[^]]*\])?==.*?(?=^\S|\Z)", lock, re.M | re.S
        )
    }
    missing = [name for name in wanted if name not in blocks]
    if missing:
        raise DevError(
            f"{LOCK.name} pins no {', '.join(missing)}", remedy=f"mend {HERE / 'bundle.txt'}"
        )
    return "\n".join(blocks[name] for name in wanted) + "\n"


def names() -> list[str]:
    """Return the packages of the bundle."""
    lines = (HERE / "bundle.txt").read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def make(*, python: str = PYTHON) -> Mapping[str, object]:
    """Write the archive and return what it holds; DevError if it is too large to be carried."""
    began = time.monotonic()
    with locks.held(FOLDER):
        site = FOLDER / "site"
        shutil.rmtree(site, ignore_errors=True)
        _install(site, python=python)
        code = dict(_reduce(site))
        write(site, ARCHIVE)
        shutil.rmtree(site)
    carried = check()
    facts = {
        "python": python,
        "architectures": sorted(ARCHITECTURES),
        "code": code,
        "archive_mib": round(ARCHIVE.stat().st_size / 2**20, 1),
        "carried_mib": round(carried / 2**20, 1),
        "limit_mib": LIMIT / 2**20,
        "seconds": round(time.monotonic() - began, 1),
    }
    (FOLDER / "bundle.json").write_text(json.dumps(facts, indent=1) + "\n")
    return facts


def check(archive: Path = ARCHIVE, *, limit: int = LIMIT) -> int:
    """Return the bytes of the archive and of all tracked files; DevError if they exceed the limit."""
    tracked = processes.run(["git", "-C", paths.REPOSITORY, "ls-files", "-z"]).split("\0")
    files = [paths.REPOSITORY / name for name in tracked if name]
    carried = archive.stat().st_size + sum(one.stat().st_size for one in files if one.is_file())
    if carried > limit:
        raise DevError(
            f"the bundle and the tracked files are {carried / 2**20:.1f} MiB, more than {limit / 2**20:.0f} MiB",
            remedy=f"leave more out in {Path(__file__).name}",
        )
    return carried


def unpack(archive: Path, into: Path) -> Path:
    """Unpack the archive and return the folder for PYTHONPATH."""
    with tarfile.open(archive) as tar:
        tar.extractall(into, filter="data")
    return into / "site"


def _install(site: Path, *, python: str) -> None:
    """Install wheels for the machine's Python, which need not be this one's."""
    file = FOLDER / "pins.txt"
    file.write_text(pins(LOCK.read_text(), names()))
    uv = Path(sys.executable).with_name("uv")
    install: list[str | Path] = [
        uv,
        "pip",
        "install",
        "--quiet",
        "--target",
        site,
        "--no-deps",
        "--require-hashes",
    ]
    where = ["--python-version", python, "--python-platform", PLATFORM]
    processes.run([*install, *where, "--only-binary", ":all:", "--link-mode", "copy", "-r", file])


def _reduce(site: Path) -> Iterator[tuple[str, Mapping[str, float]]]:
    """Leave out what is not needed; yields each pruned library with its MB before and after."""
    for pattern in LEFT_OUT:
        for found in list(site.glob(pattern)):
            shutil.rmtree(found) if found.is_dir() else found.unlink()
    for cache in list(site.rglob("__pycache__")):
        shutil.rmtree(cache)
    (site / _STAND_IN).write_text('"""Stands in for a library that this bundle leaves out."""\n')
    for name in PRUNED:
        library = site / "vllm" / name
        pruned = fatbin.prune(library.read_bytes(), architectures=ARCHITECTURES)
        library.write_bytes(pruned.content)
        yield (
            name,
            {
                "kept_mb": round(pruned.kept.total() / 1e6, 1),
                "zeroed_mb": round(pruned.zeroed.total() / 1e6, 1),
            },
        )


def write(site: Path, archive: Path) -> None:
    """Write the folder in a fixed order and without times, so that equal content is an equal archive."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = ""
        return member

    partial = archive.with_suffix(".partial")
    with (
        lzma.open(partial, "wb", preset=6) as output,
        tarfile.open(fileobj=output, mode="w|", format=tarfile.GNU_FORMAT) as tar,
    ):
        for file in sorted(one for one in site.rglob("*") if one.is_file()):
            tar.add(file, arcname=str(file.relative_to(site.parent)), filter=plain)
    partial.rename(archive)


def main() -> None:
    """Make the bundle and print its facts."""
    parser = argparse.ArgumentParser(prog="dev.gpu.bundle", description=__doc__)
    parser.add_argument("--python", default=PYTHON, help="version of the machine's Python")
    facts = make(python=parser.parse_args().python)
    print(json.dumps(facts))


if __name__ == "__main__":
    try:
        main()
    except (DevError, subprocess.SubprocessError) as error:
        raise SystemExit(f"error: {error}") from None
