"""Pods that have our labels and that no workload of ours made: they count nowhere and are reported."""

from collections.abc import Callable
from typing import Any

import pytest

from slipstream_operator import names
from slipstream_operator.core import ownership
from slipstream_operator.core.observed import Key
from slipstream_operator.shell.store import Store
from tests.support import fakes, given

REVISION = "0a1b2c3d"
ROUTER = {**names.router_labels(), "pod-template-hash": "77f"}


def _store() -> Store:
    store = Store()
    store.feed(names.INFERENCE_SERVICE, fakes.service_body(key=given.KEY), gone=False)
    return store


def _foreign(store: Store) -> tuple[str, ...]:
    found = store.snapshot(given.KEY)
    assert found is not None
    return found.foreign


def _router_pod(name: str = "router-0", **metadata: Any) -> dict[str, Any]:
    body = fakes.pod_body(REVISION, name=name, uid=f"uid-of-{name}")
    owner = fakes.controller("ReplicaSet", "slipstream-router-77f")
    body["metadata"] |= {"labels": ROUTER, "ownerReferences": [owner], **metadata}
    return body


OWNERS = {
    "no owner": [],
    "an owner that controls nothing": [
        {"kind": "ReplicaSet", "name": f"chat-{REVISION}-5d4f", "uid": "u"}
    ],
    "another ReplicaSet": [fakes.controller("ReplicaSet", "mallory-5d4f")],
    "the ReplicaSet of another template": [fakes.controller("ReplicaSet", f"chat-{REVISION}-beef")],
    "the ReplicaSet of another service": [fakes.controller("ReplicaSet", f"chat2-{REVISION}-5d4f")],
    "another kind": [fakes.controller("Job", f"chat-{REVISION}-5d4f")],
}


@pytest.mark.parametrize("owners", OWNERS.values(), ids=OWNERS)
@pytest.mark.parametrize("make", [fakes.pod_body, fakes.worker_body])
def test_a_pod_with_the_labels_of_an_engine_alone_is_no_engine(
    owners: list[dict[str, Any]], make: Callable[..., dict[str, Any]]
) -> None:
    store = _store()
    store.feed("Pod", fakes.pod_body(REVISION, name="ours"), gone=False)
    body = make(REVISION, name="theirs", uid="uid-of-theirs")
    body["metadata"]["ownerReferences"] = owners
    assert set(store.feed("Pod", body, gone=False)) == {given.KEY}
    found = store.snapshot(given.KEY)
    assert found is not None
    assert [pod.name for pod in found.pods] == ["ours"]
    assert (found.workers, found.gone) == ((), ())
    assert found.foreign == ("theirs",)
    assert [pod.name for pod in store.pods(given.KEY)] == ["ours"]
    assert set(store.feed("Pod", body, gone=True)) == {given.KEY}
    assert _foreign(store) == ()


def test_a_leader_of_a_replica_that_spans_nodes_is_an_engine() -> None:
    store = _store()
    leader = fakes.controller("StatefulSet", f"chat-{REVISION}")
    store.feed("Pod", fakes.pod_body(REVISION, owner=leader), gone=False)
    assert _foreign(store) == ()


def test_the_report_of_a_foreign_download_is_not_read() -> None:
    store = _store()
    body = fakes.fetcher_body("t", status={"phase": "Succeeded"})
    body["metadata"]["ownerReferences"] = []
    store.feed("Pod", body, gone=False)
    found = store.snapshot(given.KEY)
    assert found is not None
    assert (found.fetchers, found.foreign) == ((), ("fetch-0",))


def test_a_picker_of_its_deployment_is_no_engine_and_a_foreign_one_is_reported() -> None:
    store = _store()
    body = fakes.pod_body(REVISION, owner=fakes.controller("ReplicaSet", "chat-epp-5d4f"))
    body["metadata"]["labels"] = {names.PICKER_LABEL: "chat", "pod-template-hash": "5d4f"}
    store.feed("Pod", body, gone=False)
    assert (store.pods(given.KEY), _foreign(store)) == ([], ())
    body["metadata"]["ownerReferences"] = []
    store.feed("Pod", body, gone=False)
    assert (store.pods(given.KEY), _foreign(store)) == ([], ("pod-0",))


def test_a_pod_that_its_workload_releases_is_foreign_from_then_on() -> None:
    store = _store()
    body = fakes.pod_body(REVISION)
    store.feed("Pod", body, gone=False)
    assert _foreign(store) == ()
    body["metadata"]["ownerReferences"] = []
    store.feed("Pod", body, gone=False)
    assert _foreign(store) == ("pod-0",)


def test_a_foreign_router_is_reported_by_the_services_of_the_namespace_until_it_is_gone() -> None:
    store = _store()
    assert not set(store.feed("Pod", _router_pod(), gone=False))
    assert store.listed(given.KEY).foreign == ()
    theirs = _router_pod("theirs", ownerReferences=[])
    keys = set(store.feed("Pod", theirs, gone=False))
    assert given.KEY in keys
    assert store.listed(given.KEY).foreign == ("theirs",)
    assert store.listed(Key("elsewhere", "chat")).foreign == ()
    ended = {**theirs, "status": {"phase": "Failed"}}
    assert given.KEY in set(store.feed("Pod", ended, gone=False))
    assert store.listed(given.KEY).foreign == ()


def test_the_message_names_some_pods_and_counts_the_others() -> None:
    text = ownership.message([f"pod-{number}" for number in range(12)])
    assert "pod-9 and 2 more pods." in text
    assert "pod-10" not in text
