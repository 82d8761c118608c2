"""A stream of one service lives through changes of other services, routes and API keys of the namespace."""

from dev.cluster.kube import Kube
from tests.support import neighbors

CHANGES = 20


def test_a_stream_lives_through_twenty_changes_of_its_neighbors(kube: Kube, namespace: str) -> None:
    url = neighbors.start(kube, namespace)
    before = neighbors.router_pods(kube, namespace)
    stream = neighbors.Stream(url)
    with stream.open():
        for number in range(CHANGES // neighbors.CHANGES):
            for _ in neighbors.change(kube, namespace, url, number):
                stream.grows()
    assert stream.cut is None
    assert neighbors.router_pods(kube, namespace) == before
