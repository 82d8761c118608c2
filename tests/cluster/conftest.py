"""One real cluster for all tests of this folder: a node, kwok's fake nodes, Prometheus, and the operator as a pod."""

from collections.abc import Iterator

import pytest

from dev.cluster.kube import Kube
from dev.cluster.lifecycle import Cluster
from tests.support import clusters, services

NAME = "cluster-test"


@pytest.fixture(scope="session")
def cluster(kube: Kube) -> Cluster:
    """The cluster itself, for what a node holds."""
    return Cluster(name=NAME)


@pytest.fixture(scope="session")
def kube() -> Iterator[Kube]:
    with clusters.running(NAME, fake_nodes=4) as kube:
        kube.patch("ServingProfile", None, "local", {"spec": {"router": services.FAKE_NODES}})
        yield kube


@pytest.fixture
def namespace(kube: Kube, request: pytest.FixtureRequest) -> Iterator[str]:
    with clusters.namespace(kube, request.node.name) as name:
        yield name
