"""Images: what device plugins and compilers look for in their environment, and which locks they hold."""

import re
from pathlib import Path

import pytest

from dev.environments import toolkit

TEXT = (Path(__file__).parents[2] / "Dockerfile").read_text().replace("\\\n", " ")
STAGE = re.compile(r"^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM |\Z)", re.MULTILINE | re.DOTALL)
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
    assert kinds <= STAGES.keys()


@pytest.mark.parametrize("image", ["runtime", "runtime-onnx-cuda"])
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


@pytest.mark.parametrize("image", ["operator", "router", "runtime", "runtime-onnx-cuda"])
def test_processes_are_not_root(image: str) -> None:
    assert STAGES[image][1].rstrip().splitlines()[-2] == "USER 65532:65532"
