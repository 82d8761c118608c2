"""Samples -> all their children as YAML, reviewed as text: `pytest tests/golden --update-golden` rewrites them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from slipstream_operator.core.observed import Key, Profile
from tests import given

ROOT = Path(__file__).parents[2]
SAMPLES = sorted((ROOT / "manifests/samples").glob("*.yaml"))
GPU = {
    "name": "nvidia-h100",
    "resourceName": "nvidia.com/gpu",
    "nodeSelector": {"gpu": "h100"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
    "runtimeClassName": "nvidia",
}


def _profile(sample: str) -> Profile:
    """The profile of the local cluster; with a GPU for the samples that need one."""
    body = yaml.safe_load((ROOT / "manifests/overlays/local/profile.yaml").read_text())
    spec: dict[str, Any] = body["spec"]
    if sample.endswith("-gpu"):
        spec["accelerators"] = [GPU, *spec["accelerators"]]
        spec["images"]["vllm"] = "vllm/vllm-openai:v0"
    return Profile(body["metadata"]["name"], given.CREATED, spec)


def _children(path: Path) -> str:
    body = yaml.safe_load(path.read_text())
    parent = given.parent(body["spec"], key=Key("team", body["metadata"]["name"]))
    observed = given.observed(parent=parent, profiles=[_profile(path.stem)], pod_monitors=True)
    return yaml.safe_dump_all(given.rendered(observed), sort_keys=False, width=120)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_has_these_children(path: Path, request: pytest.FixtureRequest) -> None:
    golden = Path(__file__).parent / f"{path.stem}.yaml"
    found = _children(path)
    if request.config.getoption("--update-golden"):
        golden.write_text(found)
    assert found == golden.read_text()


def test_every_golden_file_belongs_to_a_sample() -> None:
    golden = {path.stem for path in Path(__file__).parent.glob("*.yaml")}
    assert golden == {path.stem for path in SAMPLES}
