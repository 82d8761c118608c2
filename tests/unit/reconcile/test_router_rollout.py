"""Rollouts of services behind a router."""

from typing import Any

import pytest

from slipstream_operator import names
from slipstream_operator.core.observed import Observed, RouterState
from slipstream_operator.core.render import common
from slipstream_operator.core.revisions import Revision, Rollout
from tests.support import given
from tests.support.rollouts import NEW, A, B, cluster, only, roll_out

ROUTED_OLD: dict[str, Any] = {"model": {"uri": "hf://org/old"}}

ROUTED_NEW: dict[str, Any] = {"model": {"uri": "hf://org/new"}}

C, D = given.identity(ROUTED_OLD), given.identity(ROUTED_NEW)


def _listed(*weights: tuple[str, int], available: bool = True) -> RouterState:
    """The router sends requests to these revisions of the service."""
    revisions = [{"name": f"chat-{revision}", "weight": weight} for revision, weight in weights]
    return RouterState(available=available, entry={"name": "chat", "revisions": revisions})


def _routed(revision: str, *revisions: tuple[str, int], wanted: str) -> Rollout:
    return Rollout(
        revision,
        wanted,
        tuple(Revision(*each) for each in revisions),
        by_router=True,
        routed=revision,
    )


ROUTED: list[tuple[str, Observed, Rollout]] = [
    (
        "the first revision of a service is behind the router at once",
        given.observed(ROUTED_NEW, router=RouterState()),
        _routed(D, (D, 1), wanted=D),
    ),
    (
        "the old one keeps its weight until the new one has proved itself",
        cluster(ROUTED_NEW, serving=ROUTED_OLD, pods=given.pods(C, 1), router=_listed((C, 100))),
        _routed(C, (C, 1), (D, 1), wanted=D),
    ),
    (
        "the weight moves, and the old one stays until the router was told",
        cluster(
            ROUTED_NEW,
            serving=ROUTED_OLD,
            starting=ROUTED_NEW,
            pods=given.pods(C, 1) + given.pods(D, 1),
            router=_listed((C, 100), (D, 0)),
        ),
        _routed(D, (C, 1), (D, 1), wanted=D),
    ),
    (
        "then the old one is dropped",
        cluster(
            ROUTED_NEW,
            serving=ROUTED_OLD,
            starting=ROUTED_NEW,
            pods=given.pods(C, 1) + given.pods(D, 1),
            router=_listed((C, 0), (D, 100)),
        ),
        _routed(D, (D, 1), wanted=D),
    ),
    (
        "to the router, the Service waits until the new engines are ready",
        cluster(ROUTED_NEW, pods=given.pods(A, 1), router=_listed((A, 100))),
        Rollout(A, D, (Revision(A, 1), Revision(D, 1)), by_router=False, routed=A),
    ),
    (
        "to the router, the Service waits until the router is available",
        cluster(
            ROUTED_NEW,
            starting=ROUTED_NEW,
            pods=given.pods(A, 1) + given.pods(D, 1),
            router=_listed((D, 100), available=False),
        ),
        Rollout(A, D, (Revision(A, 1), Revision(D, 1)), by_router=False, routed=D),
    ),
    (
        "to the router, the Service waits until the router knows the new engines",
        cluster(
            ROUTED_NEW,
            starting=ROUTED_NEW,
            pods=given.pods(A, 1) + given.pods(D, 1),
            router=_listed((A, 100)),
        ),
        Rollout(A, D, (Revision(A, 1), Revision(D, 1)), by_router=False, routed=D),
    ),
    (
        "to the router, the Service moves and the old one stays for those who still come",
        cluster(
            ROUTED_NEW,
            starting=ROUTED_NEW,
            pods=given.pods(A, 1) + given.pods(D, 1),
            router=_listed((D, 100)),
        ),
        _routed(D, (A, 1), (D, 1), wanted=D),
    ),
    (
        "to the engines, the Service waits until the new ones are ready",
        cluster(NEW, serving=ROUTED_OLD, pods=given.pods(C, 1), router=_listed((C, 100))),
        Rollout(C, B, (Revision(C, 1), Revision(B, 1)), by_router=True, routed=C),
    ),
    (
        "to the engines, the Service moves and the router keeps what it has",
        cluster(
            NEW,
            serving=ROUTED_OLD,
            starting=NEW,
            pods=given.pods(C, 1) + given.pods(B, 1),
            router=_listed((C, 100)),
        ),
        Rollout(B, B, (Revision(C, 1), Revision(B, 1)), by_router=False, routed=C),
    ),
    (
        "to the engines, the old one is dropped once the router has forgotten the service",
        cluster(NEW, serving=NEW, starting=ROUTED_OLD, pods=given.pods(B, 1), router=RouterState()),
        only(B),
    ),
]


@pytest.mark.parametrize(
    ("observed", "expected"), [case[1:] for case in ROUTED], ids=[case[0] for case in ROUTED]
)
def test_a_rollout_by_the_router(observed: Observed, expected: Rollout) -> None:
    assert roll_out(observed) == expected


def test_the_port_of_the_engines_closes_after_the_service_has_moved_to_the_router() -> None:
    moving = cluster(
        ROUTED_NEW,
        starting=ROUTED_NEW,
        pods=given.pods(A, 1) + given.pods(D, 1),
        router=_listed((D, 100)),
    )
    manifests = given.rendered(moving)
    service = given.find(manifests, "Service", name=given.NAME)
    assert service["spec"]["selector"] == common.of_pods(names.router_selector())
    assert not _is_closed(manifests)
    assert _is_closed(given.rendered(given.realised(moving)))


def test_the_port_of_the_engines_opens_before_the_service_moves_to_them() -> None:
    moving = cluster(
        NEW,
        serving=ROUTED_OLD,
        starting=NEW,
        pods=given.pods(C, 1) + given.pods(B, 1),
        router=_listed((C, 100)),
    )
    manifests = given.rendered(moving)
    kinds = [manifest["kind"] for manifest in manifests]
    service = manifests.index(given.find(manifests, "Service", name=given.NAME))
    assert names.REVISION_LABEL in manifests[service]["spec"]["selector"]
    assert kinds.index("NetworkPolicy") < service
    assert not _is_closed(manifests)


def _is_closed(manifests: list[dict[str, Any]]) -> bool:
    """Whether only some pods reach the API port of the engines."""
    return "from" in given.find(manifests, "NetworkPolicy")["spec"]["ingress"][0]
