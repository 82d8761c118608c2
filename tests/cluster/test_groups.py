"""Replicas that span nodes, where the cluster has LeaderWorkerSet and where it has not; its controller is not here."""

from collections.abc import Iterator
from typing import Any

import pytest

from dev.cluster import leaderworkerset
from dev.cluster.kube import Kube, Object, condition, is_true
from tests.support import services

SOON = 20.0
KIND = "LeaderWorkerSet"


def spread(namespace: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "slipstream.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": "large", "namespace": namespace},
        "spec": {
            "model": {"uri": "file:///models/target"},
            "accelerator": {"type": "cpu"},
            "parallelism": {"nodes": 2},
            "template": services.FAKE_NODES,
            **services.DIRECT,
            **spec,
        },
    }


@pytest.fixture
def definition(kube: Kube) -> Iterator[dict[str, Any]]:
    """The kind, which the test makes; gone afterwards."""
    found = leaderworkerset.definition()
    name = found["metadata"]["name"]
    kube.delete("CustomResourceDefinition", None, name)
    kube.until("CustomResourceDefinition", None, lambda items: not items, name=name, timeout=SOON)
    yield found
    kube.delete("CustomResourceDefinition", None, name)


def until_accepted(kube: Kube, namespace: str, status: str) -> Object:
    entry: Object = kube.until(
        "InferenceService",
        namespace,
        lambda items: (
            items
            and condition(items[0], "Accepted").get("status") == status
            and condition(items[0], "Accepted")
        ),
        name="large",
        timeout=SOON,
        what=f"Accepted={status}",
    )
    return entry


def until_replicas(kube: Kube, namespace: str, count: int) -> Object:
    found: Object = kube.until(
        KIND,
        namespace,
        lambda items: items and items[0]["spec"]["replicas"] == count and items[0],
        timeout=SOON,
        what=f"{count} groups",
    )
    return found


def test_a_missing_kind_is_reported_and_heals_and_its_groups_are_scaled_repaired_and_removed(
    kube: Kube, namespace: str, definition: dict[str, Any]
) -> None:
    kube.apply(spread(namespace))
    refused = until_accepted(kube, namespace, "False")
    assert refused["reason"] == "LeaderWorkerSetMissing"
    assert "Ask the platform team to install it" in refused["message"]

    kube.apply(definition)
    kube.until(
        "CustomResourceDefinition",
        None,
        lambda items: is_true(items[0], "Established"),
        name=definition["metadata"]["name"],
        timeout=SOON,
    )
    until_accepted(kube, namespace, "True")
    made = until_replicas(kube, namespace, 1)
    assert made["spec"]["leaderWorkerTemplate"]["size"] == 2

    kube.apply(spread(namespace, replicas=2))
    until_replicas(kube, namespace, 2)
    kube.patch(KIND, namespace, made["metadata"]["name"], {"spec": {"replicas": 5}})
    until_replicas(kube, namespace, 2)

    kube.apply(spread(namespace, parallelism={"nodes": 1}))
    kube.until("Deployment", namespace, lambda items: items, timeout=SOON, what="a Deployment")
    kube.until(KIND, namespace, lambda items: not items, timeout=SOON, what="the end of the groups")
