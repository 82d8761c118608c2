"""Sample ServingProfiles for GPUs: each is complete, and each GPU sample of a service resolves with each of them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from slipstream_operator.api.servingprofile import ServingProfileSpec
from slipstream_operator.core import capacity_plan, devices, resolve
from slipstream_operator.core.facts import Facts, ModelFacts
from slipstream_operator.core.observed import GatewayState, Key, Profile
from tests.support import given
from tests.support.configs import CONFIGS

ROOT = Path(__file__).parents[3]
PROFILES = sorted((ROOT / "manifests/samples/profiles").glob("*.yaml"))
SERVICES = sorted((ROOT / "manifests/samples").glob("*-gpu.yaml"))
SMALL = ModelFacts(config={**CONFIGS["Qwen3-0.6B"], "max_position_embeddings": 8192})
"""A model for which even a MIG slice has room."""


def name(path: Path) -> str:
    return path.stem


def body(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


def spec(path: Path) -> ServingProfileSpec:
    return ServingProfileSpec.model_validate(body(path)["spec"])


def test_there_is_a_sample_for_each_way_to_have_gpus():
    assert {path.stem for path in PROFILES} == {
        "aks", "dynamic", "eks", "gke", "gpu-operator", "mig", "shared-gpus",
    }  # fmt: skip


@pytest.mark.parametrize("path", PROFILES, ids=name)
def test_a_sample_profile_holds_no_unknown_field(path):
    raw = body(path)["spec"]
    read = spec(path).model_dump(by_alias=True, exclude_unset=True, exclude_none=True)
    assert read == raw


@pytest.mark.parametrize("path", PROFILES, ids=name)
def test_a_sample_profile_says_what_fit_cost_and_quota_need(path):
    found = spec(path)
    assert found.limits is not None and found.limits.max_accelerators_per_namespace
    for accelerator in found.accelerators:
        assert accelerator.memory and accelerator.hourly_cost, accelerator.name
        assert bool(accelerator.resource_name) != bool(accelerator.device_class)


@pytest.mark.parametrize("service", SERVICES, ids=name)
@pytest.mark.parametrize("path", PROFILES, ids=name)
def test_each_service_resolves_with_each_accelerator(path, service):
    raw = body(path)["spec"]
    raw["images"]["picker"] = "picker:1"  # of the gateway, whose version decides
    raw["sources"] = {"allow": ["*"]}  # a site allows its own stores and registries
    profile = Profile(path.stem, given.CREATED, raw)
    for accelerator in spec(path).accelerators:
        asked = body(service)["spec"]
        if "parallelism" in asked and devices.of(accelerator).single(accelerator) is not None:
            continue  # refused: parts of GPUs are not combined
        asked["accelerator"] = {**asked.get("accelerator", {}), "type": accelerator.name}
        snapshot = given.observed(
            parent=given.parent(asked, key=Key("team", body(service)["metadata"]["name"])),
            profiles=[profile],
            gateway=GatewayState(kinds=True),
            leader_worker_sets=True,
            facts=Facts(model=SMALL, draft=SMALL),
        )
        found = resolve.resolve(snapshot)
        planned = capacity_plan.of(found)
        assert planned.memory is not None and planned.memory.kv > 0
        assert planned.cost is not None and planned.cost[1] > 0
        kinds = {manifest["kind"] for manifest in given.rendered(snapshot)}
        assert ("ResourceClaimTemplate" in kinds) == bool(accelerator.device_class)


@pytest.mark.parametrize(
    ("profile", "accelerator", "grace"),
    [
        ("gke", "nvidia-l4-spot", 24),
        ("aks", "nvidia-a100-spot", 29),
        ("eks", "nvidia-l40s-spot", 104),
    ],
)
def test_pods_on_spot_nodes_end_within_the_notice(profile, accelerator, grace):
    path = ROOT / f"manifests/samples/profiles/{profile}.yaml"
    snapshot = given.observed(
        {"model": given.MODEL, "accelerator": {"type": accelerator}},
        profiles=[Profile(profile, given.CREATED, body(path)["spec"])],
    )
    assert resolve.resolve(snapshot).times.grace == grace
