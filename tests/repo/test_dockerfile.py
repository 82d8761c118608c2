"""Images: what device plugins and compilers look for in their environment, and which locks they hold."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dev.environments import toolkit

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
STAGE = re.compile(r"^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM |\Z)", re.MULTILINE | re.DOTALL)
IMPORT_ALL = """
import importlib, json, pkgutil, sys
import slipstream_operator
for module in pkgutil.walk_packages(slipstream_operator.__path__, "slipstream_operator."):
    importlib.import_module(module.name)
print(json.dumps({k: m.__file__ for k, m in sys.modules.items() if k.startswith("slipstream")}))
"""
STAGES = {name: (parent, body) for parent, name, body in STAGE.findall(TEXT)}


def environment(stage: str) -> dict[str, str]:
    """Variables of a stage and of those that it is built on."""
    if stage not in STAGES:
        return {}
    parent, body = STAGES[stage]
    lines = re.findall(r"^ENV (.*)$", body, re.MULTILINE)
    return environment(parent) | {
        key: value for line in lines for key, value in re.findall(r"(\w+)=(\S+)", line)
    }


def test_images_exist() -> None:
    kinds = {"operator", "router", "runtime", "runtime-cpu", "runtime-onnx", "runtime-onnx-cuda"}
    assert {*kinds, "builder"} <= STAGES.keys()


@pytest.mark.parametrize("image", ["runtime", "runtime-onnx-cuda", "builder"])
def test_a_gpu_image_finds_the_driver_wherever_it_is_mounted(image: str) -> None:
    found = environment(image)
    folders = found["LD_LIBRARY_PATH"].split(":")
    assert folders[:2] == ["/usr/local/nvidia/lib", "/usr/local/nvidia/lib64"]
    assert found["NVIDIA_VISIBLE_DEVICES"] == "all"
    assert found["NVIDIA_DRIVER_CAPABILITIES"] == "compute,utility"


def test_vllm_s_gpu_image_names_the_compiler_that_it_completes() -> None:
    found = environment("runtime")
    assert found["CUDA_HOME"] == f"/opt/slipstream/venv/{toolkit.HOME}"
    assert found["LD_LIBRARY_PATH"].split(":")[-1] == f"{found['CUDA_HOME']}/lib64"
    assert "toolkit.py" in STAGES["runtime"][1]
    assert environment("runtime")["PATH"].startswith("/opt/slipstream/venv/bin:")


@pytest.mark.parametrize("image", ["operator", "router", "runtime-cpu", "runtime-onnx"])
def test_other_images_ask_for_no_gpu(image: str) -> None:
    assert "NVIDIA_VISIBLE_DEVICES" not in environment(image)


@pytest.mark.parametrize("image", ["operator", "router", "runtime", "runtime-onnx-cuda", "builder"])
def test_processes_are_not_root(image: str) -> None:
    assert STAGES[image][1].rstrip().splitlines()[-2] == "USER 65532:65532"


def test_the_operators_image_holds_all_that_it_imports_and_neither_simulator_nor_command_line(
    tmp_path: Path,
) -> None:
    copied = re.findall(r"^COPY ([^-].*) /app/(\S+)$", STAGES["operator"][1], re.MULTILINE)
    assert copied
    for sources, target in copied:
        for source in sources.split():
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, tmp_path / target, dirs_exist_ok=True)
            else:
                (tmp_path / target).mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, tmp_path / target)
    packages = {path.parent.name for path in tmp_path.glob("*/*/__init__.py")}
    assert packages == {"slipstream_operator", "slipstream_runtime"}
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL],
        env={"PYTHONPATH": f"{tmp_path}/operator:{tmp_path}/runtime", "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    files = json.loads(done.stdout)
    assert len(files) > 100
    assert all(Path(file).is_relative_to(tmp_path) for file in files.values()), files


def test_the_context_of_the_images_has_all_that_they_copy_and_little_else() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    kept = [line[1:] for line in lines if line.startswith("!")]
    assert lines[1] == "*"
    copied = re.findall(r"^COPY ([^-].*) /\S+$", TEXT, re.MULTILINE)
    mounted = re.findall(r"source=([a-z]+),", TEXT)
    for source in [*(word for words in copied for word in words.split()), *mounted]:
        assert any(
            name.startswith(source) or source.startswith(name) or Path(source).match(name)
            for name in kept
        ), source
    assert not [name for name in kept if not list(ROOT.glob(name))]


def test_images_can_be_built_on_a_digest() -> None:
    assert re.search(r"^ARG PYTHON_IMAGE=\S+python:3.11-slim$", TEXT, re.MULTILINE)
    outside = {parent for parent, _ in STAGES.values()} - STAGES.keys()
    assert outside == {"${PYTHON_IMAGE}"}


@pytest.mark.parametrize("image", ["operator", "router", "runtime-onnx", "runtime-onnx-cuda"])
def test_an_image_that_compiles_nothing_has_no_compiler(image: str) -> None:
    while image in STAGES:
        parent, body = STAGES[image]
        assert "g++" not in body
        image = parent
