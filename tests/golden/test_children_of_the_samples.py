"""Samples -> all their children as YAML, reviewed as text: `pytest tests/golden --update-golden` rewrites them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from slipstream_operator import names
from slipstream_operator.core import inference_routes, router_config
from slipstream_operator.core.builds import resolve as builds
from slipstream_operator.core.observed import GatewayState, Key, Observed, ObservedBuild, Profile
from slipstream_operator.core.render import build, router
from tests.support import given

ROOT = Path(__file__).parents[2]
BODIES = {
    path: yaml.safe_load(path.read_text())
    for path in sorted((ROOT / "manifests/samples").glob("*.yaml"))
}
SAMPLES = [path for path, body in BODIES.items() if body["kind"] == names.INFERENCE_SERVICE]
BUILDS = [path for path, body in BODIES.items() if body["kind"] == names.MODEL_BUILD]
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
        spec["images"] |= {
            "vllm": "registry.example/slipstream-runtime:v0",
            "picker": "ghcr.io/llm-d/picker:v0",
        }
    return Profile(body["metadata"]["name"], given.CREATED, spec)


def _observed(path: Path) -> Observed:
    name = BODIES[path]["metadata"]["name"]
    return given.observed(
        parent=given.parent(BODIES[path]["spec"], key=Key("team", name)),
        profiles=[_profile(path.stem)],
        pod_monitors=True,
        gateway=GatewayState(kinds=True),
        leader_worker_sets=True,
    )


def _children(path: Path) -> str:
    return _text(given.rendered(_observed(path)))


def _build(path: Path) -> str:
    name = BODIES[path]["metadata"]["name"]
    key = Key("team", name, names.MODEL_BUILD)
    parent = given.parent(BODIES[path]["spec"], key=key)
    observed = ObservedBuild(parent, {}, (_profile(path.stem),), (), ())
    return _text(build.render(builds.resolve(observed)))


def _router() -> str:
    """Of a namespace that holds all samples which need no GPU."""
    snapshots = [_observed(path) for path in SAMPLES if not path.stem.endswith("-gpu")]
    services = {
        snapshot.parent.key.name: given.entry(snapshot)
        for snapshot in snapshots
        if given.entry(snapshot)
    }
    namespace = given.router(
        [snapshot.parent for snapshot in snapshots],
        routes=[
            given.parent(
                body["spec"], key=Key("team", body["metadata"]["name"], names.INFERENCE_ROUTE)
            )
            for body in BODIES.values()
            if body["kind"] == names.INFERENCE_ROUTE
        ],
        profiles=[_profile("")],
        pod_monitors=True,
    )
    judged = inference_routes.validate(namespace, services)
    assert not judged.refused
    found = router_config.resolve(namespace, services, judged.entries)
    assert found is not None
    token = router.token("team", account="uid-of-the-account", value="generated")
    return _text([*router.render(found), token])


def _text(manifests: list[dict[str, Any]]) -> str:
    return yaml.safe_dump_all(manifests, sort_keys=False, width=120)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_has_these_children(path: Path, request: pytest.FixtureRequest) -> None:
    _compare(path.stem, _children(path), request)


@pytest.mark.parametrize("path", BUILDS, ids=lambda path: path.stem)
def test_a_sample_of_a_build_has_these_children(path: Path, request: pytest.FixtureRequest) -> None:
    _compare(path.stem, _build(path), request)


def test_a_namespace_with_the_samples_has_this_router(request: pytest.FixtureRequest) -> None:
    _compare("router", _router(), request)


def _compare(name: str, found: str, request: pytest.FixtureRequest) -> None:
    golden = Path(__file__).parent / f"{name}.yaml"
    if request.config.getoption("--update-golden"):
        golden.write_text(found)
    assert found == golden.read_text()


def test_every_golden_file_belongs_to_a_sample() -> None:
    golden = {path.stem for path in Path(__file__).parent.glob("*.yaml")}
    assert golden == {"router", *(path.stem for path in [*SAMPLES, *BUILDS])}
