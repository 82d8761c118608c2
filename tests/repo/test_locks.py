"""Locks: no two packages of one write the same file, and the parts of CUDA are of one release."""

import re
import sysconfig
from pathlib import Path

import pytest

from dev.environments import cuda, records


def test_no_file_of_this_environment_belongs_to_two_packages() -> None:
    assert records.shared(Path(sysconfig.get_path("purelib"))) == {}


def test_locks_of_other_environments_were_installed_and_checked() -> None:
    """A new lock: `python -m dev.environments.records` installs it, looks, and writes its hash down."""
    assert records.checked() == records.digests()


def test_locks_of_the_images_are_of_this_environment_or_checked() -> None:
    apart = {file.name for file in records.apart()}
    assert {"runtime-cuda.txt", "runtime-onnx-cuda.txt"} <= apart
    assert not {"operator.txt", "router.txt", "runtime-cpu.txt", "runtime-onnx.txt"} & apart


def test_two_packages_that_own_a_file_are_found(tmp_path: Path) -> None:
    for name, version in (("cuda_python", "12.6.2"), ("cuda_bindings", "13.5.0")):
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
        (folder / "RECORD").write_text(f"cuda/bindings/runtime.so,,\n{name}.py,,\n")
    assert records.shared(tmp_path) == {
        "cuda/bindings/runtime.so": ["cuda_bindings", "cuda_python"]
    }


@pytest.mark.parametrize("part", ["nvcc", "nvrtc", "runtime", "crt", "cccl", "cupti"])
def test_the_compiler_is_of_the_cuda_release_that_torch_was_built_with(part: str) -> None:
    found = records.pins(cuda.LOCK)
    release = found["cuda-toolkit"].rsplit(".", 2)[0]
    assert re.fullmatch(r"\d+\.\d+", release)
    assert found[f"nvidia-cuda-{part}"].startswith(f"{release}.")
    assert found["nvidia-nvvm"].startswith(f"{release}.")
