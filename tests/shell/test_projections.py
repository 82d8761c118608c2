"""Projections of raw objects onto values, with the failures of pods as reasons and messages."""

import pytest

from slipstream_operator.shell import projections
from slipstream_operator.shell.packing import Packer
from tests.support import fakes, given


def test_a_ready_pod() -> None:
    found = projections.pod(fakes.pod_body("a"))
    assert (found.ready, found.ready_since, found.revision, found.service) == (
        True,
        given.NOW,
        "a",
        "chat",
    )


def test_a_pod_without_status_is_not_ready() -> None:
    body = fakes.pod_body("a")
    del body["status"]
    found = projections.pod(body)
    assert (found.ready, found.ready_since, found.phase) == (False, None, "Pending")


def test_a_parent_keeps_conditions_that_can_be_read() -> None:
    good = {
        "type": "Ready",
        "status": "True",
        "reason": "R",
        "message": "",
        "lastTransitionTime": given.NOW,
    }
    body = fakes.service_body(status={"conditions": [good, {"type": "Broken"}]})
    assert [
        condition.type for condition in projections.parent(body, packer=Packer()).conditions
    ] == ["Ready"]


def test_only_a_controlling_owner_controls() -> None:
    body = given.find(given.rendered(given.observed()), "Deployment")
    body["metadata"] |= {
        "uid": "uid-1",
        "ownerReferences": [{"uid": "a"}, {"uid": "b", "controller": True}],
    }
    assert projections.child("Deployment", body, packer=Packer()).controller == "b"
    body["metadata"]["ownerReferences"] = [{"uid": "a", "controller": False}]
    assert projections.child("Deployment", body, packer=Packer()).controller is None


@pytest.mark.parametrize(
    ("image", "digest"),
    [
        (f"ghcr.io/org/runtime@sha256:{'a' * 64}", f"sha256:{'a' * 64}"),
        (f"sha256:{'a' * 64}", f"sha256:{'a' * 64}"),
        (f"docker-pullable://x@sha256:{'a' * 64}", f"sha256:{'a' * 64}"),
        (f"sha256:{'a' * 65}", None),
        ("sha256:no digest", None),
        ("", None),
    ],
)
def test_the_image_of_a_pod_is_known_by_its_digest(image: str, digest: str | None) -> None:
    status = {"containerStatuses": [{"name": "sidecar", "imageID": f"sha256:{'b' * 64}"}]}
    status["containerStatuses"].append({"name": "engine", "imageID": image})
    assert projections.pod(fakes.pod_body("a", status=status)).image == digest
