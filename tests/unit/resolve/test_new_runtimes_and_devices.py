"""A new runtime is one value and a word of the schema; a new device is one value and a field of the images."""

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, get_args

import pytest

import slipstream_operator
from slipstream_operator.api import pod, runtimes
from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.api.servingprofile import Images, ServingProfileSpec
from slipstream_operator.core import devices, profiles, resolve
from slipstream_operator.core.revisions import ENGINE_KEY
from slipstream_operator.core.runtimes import registry
from slipstream_operator.core.runtimes.runtime import Inputs, Runtime
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from tests.support import given

SOURCE: Final = Path(slipstream_operator.__file__).parent


def configure(inputs: Inputs) -> dict[str, Any]:
    return {"greeting": inputs.model_name, "device": inputs.device.name, "seconds": inputs.drain}


ECHO: Final = Runtime(
    name="echo",
    module="echo.server",
    images=("echo", "vllm_cpu"),
    configure=configure,
    max_sequences=lambda spec: 7,
    resources=pod.Resources(requests={"cpu": "10m"}),
    needs_model=False,
    uses_accelerator=False,
    generates_tokens=False,
    checks_keys=False,
)
ROCM: Final = dataclasses.replace(
    devices.DEVICES["rocm"],
    supported=True,
    images={"vllm": "vllm_rocm"},
    lacks={devices.Feature.NVFP4: "vLLM has no NVFP4 kernel for AMD GPUs"},
)
AMD: Final = given.profile(
    accelerators=[{"name": "mi300x", "resourceName": "amd.com/gpu"}],
    images={"vllm": "vllm:cuda", "vllmRocm": "vllm:rocm", "router": "router:1"},
)


class SpecWithEcho(InferenceServiceSpec):
    runtime: Literal["vllm", "onnx", "simulator", "echo"] | None = None


class ImagesWithRocm(Images):
    vllm_rocm: str | None = None


class ProfileWithRocm(ServingProfileSpec):
    images: ImagesWithRocm | None = None


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "RUNTIMES", {**registry.RUNTIMES, "echo": ECHO})
    monkeypatch.setattr(resolve, "InferenceServiceSpec", SpecWithEcho)


@pytest.fixture
def rocm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(devices.DEVICES, "rocm", ROCM)
    monkeypatch.setattr(profiles, "ServingProfileSpec", ProfileWithRocm)


def test_the_schema_names_the_runtimes_that_exist() -> None:
    assert set(get_args(runtimes.Name)) == registry.RUNTIMES.keys()


@pytest.mark.usefixtures("echo")
def test_a_service_with_a_new_runtime_resolves_and_renders() -> None:
    spec = {"runtime": "echo", "slo": {"e2e": {"p95": "1s"}, "ttft": {"p95": "1s"}}}
    found = given.resolved(spec)
    assert found.runtime == "echo"
    assert found.max_sequences == 7
    assert [objective.name for objective in found.objectives.latency] == ["e2e-p95"]
    children = given.rendered(given.observed(spec))
    (container,) = given.find(children, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["command"][:3] == ["python", "-m", "echo.server"]
    assert container["image"] == "image/cpu:1"
    assert container["resources"] == {"requests": {"cpu": "10m"}}
    texts = [child["data"] for child in children if ENGINE_KEY in child.get("data", {})]
    assert '"greeting": "chat"' in texts[0][ENGINE_KEY].replace('":"', '": "')


@pytest.mark.usefixtures("echo")
def test_a_new_runtime_names_the_image_that_it_lacks() -> None:
    with pytest.raises(PermanentError, match=r"images\.echo in ServingProfile"):
        given.resolved({"runtime": "echo"}, profiles=[given.profile(images={"router": "r:1"})])


def test_a_known_device_without_an_engine_is_refused() -> None:
    with pytest.raises(PermanentError, match="means AMD GPUs, and engines run on NVIDIA GPUs and"):
        given.resolved({"model": given.MODEL}, profiles=[AMD])


@pytest.mark.usefixtures("rocm")
def test_a_service_on_a_new_device_resolves_and_renders() -> None:
    spec = {"model": given.MODEL, "accelerator": {"count": 2}}
    found = given.resolved(spec, profiles=[AMD])
    assert found.accelerator == "mi300x x 2"
    assert found.revisioned.image == "vllm:rocm"
    assert found.revisioned.config["device"] == "rocm"
    assert found.revisioned.config["tensorParallel"] == 2
    children = given.rendered(given.observed(spec, profiles=[AMD]))
    (container,) = given.find(children, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"amd.com/gpu": "2"}


@pytest.mark.usefixtures("rocm")
def test_a_new_device_refuses_the_features_that_it_lacks() -> None:
    with pytest.raises(PermanentError, match="no NVFP4 kernel for AMD GPUs") as refusal:
        given.resolved({"model": given.MODEL, "quantization": {"method": "nvfp4"}}, profiles=[AMD])
    assert refusal.value.reason == Reason.UNSUPPORTED


@pytest.mark.usefixtures("rocm")
def test_resources_of_two_kinds_of_device_are_refused() -> None:
    mixed = {"name": "odd", "resourceName": "nvidia.com/gpu"}
    mixed_profile = given.profile(
        accelerators=[{**mixed, "resources": {"limits": {"amd.com/gpu": "1"}}}]
    )
    with pytest.raises(PermanentError, match="Name resources of one kind of device"):
        given.resolved({"model": given.MODEL}, profiles=[mixed_profile])


def _named(file: Path) -> Iterator[str]:
    """Yield each comparison of the file with the name of a runtime or a device."""
    words = {*registry.RUNTIMES, *devices.DEVICES, "CPU", "CUDA"}
    for node in ast.walk(ast.parse(file.read_text())):
        compared: list[ast.expr | ast.pattern] = []
        if isinstance(node, ast.Compare):
            compared = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            compared = [node.value]
        for part in compared:
            word = part.value if isinstance(part, ast.Constant) else getattr(part, "attr", None)
            if word in words:
                yield f"{file.relative_to(SOURCE)}:{part.lineno}: {word}"


def test_no_other_file_decides_by_the_name_of_a_runtime_or_a_device() -> None:
    rooms = {SOURCE / "core/devices.py", *(SOURCE / "core/runtimes").iterdir()}
    files = [file for file in SOURCE.rglob("*.py") if file not in rooms]
    assert len(files) > 100
    assert [found for file in files for found in _named(file)] == []
