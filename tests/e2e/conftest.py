"""One real node with the real vLLM, the real Prometheus, and the operator as a pod."""

from collections.abc import Iterator

import pytest

from dev.cluster.kube import Kube
from dev.cluster.lifecycle import Cluster
from tests.support import clusters

NAME = "e2e"


@pytest.fixture(scope="session")
def kube() -> Iterator[Kube]:
    with clusters.running(NAME) as kube:
        yield kube


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    return Cluster(name=NAME)


@pytest.fixture
def namespace(kube: Kube, request: pytest.FixtureRequest) -> Iterator[str]:
    with clusters.namespace(kube, request.node.name) as name:
        yield name
