"""Waits on the API server: a change puts the deadline off, and nothing else does."""

from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import Mock

import pytest

from dev.cluster.kube import Kube, Object


def pod(version: int) -> Object:
    return {"metadata": {"uid": "a", "name": "a", "resourceVersion": str(version)}, "status": {}}


@pytest.fixture
def kube(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[int]], tuple[Kube, list[int]]]:
    """Return a client whose windows of waiting see the Pod in these versions, and the windows that it waited."""

    def make(versions: list[int]) -> tuple[Kube, list[int]]:
        client = Kube.__new__(Kube)
        windows: list[int] = []
        ahead = iter(versions)

        def snapshots(*_: Any) -> Iterator[dict[str, Object]]:
            windows.append(next(ahead))
            yield {"a": pod(windows[-1])}

        monkeypatch.setattr(client, "_snapshots", snapshots, raising=False)
        found = Mock(side_effect=lambda kind, _: [pod(windows[-1])] if kind == "Pod" else [])
        monkeypatch.setattr(client, "find", found, raising=False)
        return client, windows

    return make


def wait(client: Kube, version: int) -> Any:
    return client.until(
        "Pod",
        "team",
        lambda items: items[0]["metadata"]["resourceVersion"] == str(version),
        timeout=1.0,
        what="the version",
    )


def test_a_wait_goes_on_while_something_changes(
    kube: Callable[[list[int]], tuple[Kube, list[int]]],
) -> None:
    client, windows = kube([1, 2, 3, 4])
    assert wait(client, 4)
    assert windows == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("versions", "waited"), [([1, 1, 2], 2), ([1, 2, 2, 3], 3), (list(range(9)), 5)]
)
def test_a_wait_ends_once_nothing_changes_or_after_five_times_its_timeout(
    kube: Callable[[list[int]], tuple[Kube, list[int]]], versions: list[int], waited: int
) -> None:
    client, windows = kube(versions)
    with pytest.raises(AssertionError, match="the version was not as wanted"):
        wait(client, 99)
    assert len(windows) == waited
