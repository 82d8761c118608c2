"""Placement of engine pods: packed on GPU nodes, spread over nodes else, and the user's own wins."""

from typing import Any

import pytest

from tests.support import given

CPU = {"accelerator": {"type": "cpu"}}
NODES = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
APART: dict[str, Any] = {
    "podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {}}
        ]
    }
}


def pod(spec: dict[str, Any] | None = None) -> Any:
    """The pod that is rendered."""
    manifests = given.rendered(given.observed({"model": given.MODEL, **(spec or {})}))
    (deployment,) = (each for each in manifests if each["kind"] == "Deployment")
    return deployment["spec"]["template"]["spec"]


def spread(pod: Any) -> list[str]:
    """Topologies that the pods spread over."""
    return [each["topologyKey"] for each in pod.get("topologySpreadConstraints", [])]


def test_gpu_replicas_prefer_nodes_with_engines_and_spread_over_zones_only() -> None:
    found = pod()
    (near,) = found["affinity"]["podAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert near["podAffinityTerm"]["topologyKey"] == "kubernetes.io/hostname"
    assert spread(found) == ["topology.kubernetes.io/zone"]
    (constraint,) = found["topologySpreadConstraints"]
    assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"


def test_cpu_replicas_spread_over_nodes() -> None:
    found = pod(CPU)
    assert "affinity" not in found
    assert spread(found) == ["kubernetes.io/hostname"]


@pytest.mark.parametrize("template", [{"affinity": NODES}, {}])
def test_a_choice_of_nodes_alone_leaves_the_packing(template: dict[str, Any]) -> None:
    found = pod({"template": template})["affinity"]
    assert "podAffinity" in found
    assert found.get("nodeAffinity") == template.get("affinity", {}).get("nodeAffinity")


def test_a_template_that_keeps_pods_apart_is_not_packed() -> None:
    found = pod({"template": {"affinity": APART}})["affinity"]
    assert "podAffinity" not in found
    assert "podAntiAffinity" in found
