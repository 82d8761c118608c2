"""Store: its contents after watch events, and the services that they affect."""

from collections.abc import Callable
from typing import Any

import pytest

from slipstream_operator import names
from slipstream_operator.core.observed import Key, router_key
from slipstream_operator.shell.store import Store
from tests.support import fakes, given

OTHER = Key(given.NAMESPACE, "other")
ELSEWHERE = Key("elsewhere", "chat")
EVERYTHING = {
    given.KEY,
    OTHER,
    ELSEWHERE,
    router_key(given.NAMESPACE),
    router_key(ELSEWHERE.namespace),
}
HASH = given.identity()


def _feed(store: Store, kind: str, body: dict[str, Any], *, gone: bool = False) -> set[Key]:
    return set(store.feed(kind, body, gone=gone))


def _feed_service(store: Store, *, gone: bool = False, **fields: Any) -> set[Key]:
    return _feed(store, names.INFERENCE_SERVICE, fakes.service_body(**fields), gone=gone)


def _store() -> Store:
    """Two services in one namespace and one in another."""
    store = Store()
    for key in (given.KEY, OTHER, ELSEWHERE):
        _feed_service(store, key=key, uid=f"uid-of-{key}")
    return store


def _child(**changed: Any) -> dict[str, Any]:
    body = given.find(given.rendered(given.observed()), "Deployment")
    metadata = {**body["metadata"], "uid": "uid-1", "creationTimestamp": given.CREATED, **changed}
    return {**body, "metadata": metadata}


def test_an_unknown_service_has_no_snapshot() -> None:
    assert Store().snapshot(given.KEY) is None


def test_a_snapshot_holds_everything_that_is_known() -> None:
    store = Store()
    _feed(store, names.SERVING_PROFILE, fakes.profile_body())
    _feed(store, "Namespace", fakes.named(given.NAMESPACE, labels={"env": "prod"}))
    _feed_service(store)
    _feed(store, "Pod", fakes.pod_body(HASH))
    _feed(store, "Deployment", _child())
    found = store.snapshot(given.KEY)
    assert found is not None
    assert (found.parent.uid, found.parent.spec) == (given.UID, {"model": given.MODEL})
    assert found.profiles == (given.profile(),)
    assert found.namespace_labels == {"env": "prod"}
    assert [pod.name for pod in found.pods] == ["pod-0"]
    assert [child.uid for child in found.children] == ["uid-1"]
    assert found.name_holders == {"chat": given.KEY}
    assert not found.pod_monitors


CONCERNED: dict[str, tuple[str, dict[str, Any], set[Key]]] = {
    "an object": (names.INFERENCE_SERVICE, fakes.service_body(uid="new"), {given.KEY}),
    "a pod": ("Pod", fakes.pod_body(HASH), {given.KEY}),
    "a child": ("Deployment", _child(), {given.KEY}),
    "a pod of no service": ("Pod", fakes.pod_body(HASH, service=""), set()),
    "a child of no service": ("ConfigMap", _child(labels={}), set()),
    "a profile": (
        names.SERVING_PROFILE,
        fakes.profile_body(),
        EVERYTHING,
    ),
    "labels of a namespace": (
        "Namespace",
        fakes.named(given.NAMESPACE, labels={"env": "prod"}),
        {given.KEY, OTHER},
    ),
    "the kind PodMonitor": (
        "CustomResourceDefinition",
        fakes.definition(names.POD_MONITOR),
        EVERYTHING,
    ),
    "another kind": ("CustomResourceDefinition", fakes.named("widgets.example.com"), set()),
}


@pytest.mark.parametrize(("kind", "body", "expected"), CONCERNED.values(), ids=CONCERNED)
def test_a_change_queues_the_services_that_it_affects(
    kind: str, body: dict[str, Any], expected: set[Key]
) -> None:
    assert _feed(_store(), kind, body) == expected


@pytest.mark.parametrize(("kind", "body", "_expected"), CONCERNED.values(), ids=CONCERNED)
def test_a_repeated_event_affects_no_service(
    kind: str, body: dict[str, Any], _expected: object
) -> None:
    store = _store()
    _feed(store, kind, body)
    assert not _feed(store, kind, body)


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body["metadata"].update(resourceVersion="9", generation=4),
        lambda body: body["metadata"].update(managedFields=[{"manager": "kubelet"}]),
        lambda body: body.update(status={"readyReplicas": 1}),
    ],
    ids=["resourceVersion", "managedFields", "status"],
)
def test_fields_of_a_child_that_others_write_affect_no_service(
    change: Callable[[Any], object],
) -> None:
    store = _store()
    _feed(store, "Deployment", _child())
    body = _child()
    change(body)
    assert not _feed(store, "Deployment", body)


def test_a_worker_of_a_replica_is_no_engine_pod() -> None:
    store = _store()
    worker = fakes.worker_body(HASH, name="chat-0-1", uid="uid-of-worker")
    assert _feed(store, "Pod", worker) == {given.KEY}
    found = store.snapshot(given.KEY)
    assert found is not None
    assert (found.pods, [pod.name for pod in found.workers]) == ((), ["chat-0-1"])
    assert store.pods(given.KEY) == []
    assert _feed(store, "Pod", worker, gone=True) == {given.KEY}


def test_deleted_objects_are_forgotten() -> None:
    store = _store()
    _feed(store, "Deployment", _child())
    _feed(store, "Pod", fakes.pod_body(HASH))
    assert _feed(store, "Deployment", _child(), gone=True) == {given.KEY}
    assert _feed(store, "Pod", fakes.pod_body(HASH), gone=True) == {given.KEY}
    found = store.snapshot(given.KEY)
    assert found is not None
    assert not found.children
    assert not found.pods


def test_a_deleted_service_has_no_snapshot_but_is_queued() -> None:
    store = _store()
    assert _feed_service(store, uid=f"uid-of-{given.KEY}", gone=True) == {given.KEY}
    assert store.snapshot(given.KEY) is None
    assert set(store.keys()) == {OTHER, ELSEWHERE}


def test_a_late_deletion_of_a_recreated_object_is_ignored() -> None:
    store = Store()
    _feed_service(store, uid="new")
    assert not _feed_service(store, uid="old", gone=True)
    found = store.snapshot(given.KEY)
    assert found is not None
    assert found.parent.uid == "new"


def test_a_late_deletion_of_a_recreated_child_is_ignored() -> None:
    store = _store()
    _feed(store, "Deployment", _child(uid="new"))
    assert not _feed(store, "Deployment", _child(uid="old"), gone=True)
    found = store.snapshot(given.KEY)
    assert found is not None
    assert [child.uid for child in found.children] == ["new"]


def test_the_deletion_of_the_kind_pod_monitor_queues_everything() -> None:
    store = _store()
    _feed(store, "CustomResourceDefinition", fakes.definition(names.POD_MONITOR))
    gone = _feed(store, "CustomResourceDefinition", fakes.definition(names.POD_MONITOR), gone=True)
    assert gone == EVERYTHING


QWEN = {"model": {**given.MODEL, "name": "qwen"}}


def _claims(store: Store, key: Key, *, created: str, **fields: Any) -> set[Key]:
    return _feed_service(store, key=key, uid=f"uid-of-{key}", spec=QWEN, created=created, **fields)


def _holder(store: Store, key: Key) -> Key | None:
    found = store.snapshot(key)
    assert found is not None
    return found.name_holders.get("qwen")


OLD, NEW = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"


def test_the_oldest_service_of_a_namespace_holds_a_name() -> None:
    store = Store()
    _claims(store, OTHER, created=NEW)
    _claims(store, given.KEY, created=OLD)
    _claims(store, ELSEWHERE, created="2025-01-01T00:00:00Z")
    assert _holder(store, OTHER) == _holder(store, given.KEY) == given.KEY
    assert _holder(store, ELSEWHERE) == ELSEWHERE


def test_of_two_services_created_at_once_the_first_by_name_holds_the_name() -> None:
    store = Store()
    _claims(store, OTHER, created=OLD)
    _claims(store, given.KEY, created=OLD)
    assert _holder(store, OTHER) == given.KEY


def test_a_service_that_is_being_deleted_holds_no_name() -> None:
    store = Store()
    _claims(store, given.KEY, created=OLD, deleting=True)
    _claims(store, OTHER, created=NEW)
    assert _holder(store, OTHER) == OTHER


FREED: dict[str, dict[str, Any]] = {
    "deleted": {"spec": QWEN, "created": OLD, "gone": True},
    "being deleted": {"spec": QWEN, "created": OLD, "deleting": True},
    "renamed": {"created": OLD},
    "made anew": {"spec": QWEN, "created": "2026-03-01T00:00:00Z"},
}


@pytest.mark.parametrize("change", FREED.values(), ids=FREED)
def test_a_name_that_becomes_free_queues_the_services_that_claim_it(change: dict[str, Any]) -> None:
    store = Store()
    _claims(store, given.KEY, created=OLD)
    _claims(store, OTHER, created=NEW)
    assert OTHER in _feed_service(store, uid=f"uid-of-{given.KEY}", **change)
    assert _holder(store, OTHER) == OTHER


def test_a_claimed_name_queues_the_services_that_claimed_it_before() -> None:
    store = Store()
    _claims(store, given.KEY, created=OLD)
    assert _claims(store, OTHER, created=NEW) == {given.KEY, OTHER}


def test_the_store_knows_whether_it_has_all_objects_of_a_kind() -> None:
    store = Store()
    assert store.has_seen("Pod", set())
    assert not store.has_seen("Pod", {"uid-of-pod"})
    _feed(store, "Pod", fakes.pod_body(HASH))
    assert store.has_seen("Pod", {"uid-of-pod"})
    assert not store.has_seen("Deployment", {"uid-of-pod"})


def _limited() -> dict[str, Any]:
    return fakes.profile_body(limits={"maxAcceleratorsPerNamespace": 8})


def test_with_a_quota_a_snapshot_holds_the_other_services_of_the_namespace() -> None:
    store = _store()
    found = store.snapshot(given.KEY)
    assert found is not None and found.siblings == ()
    _feed(store, names.SERVING_PROFILE, _limited())
    found = store.snapshot(given.KEY)
    assert found is not None
    assert [sibling.key for sibling in found.siblings] == [OTHER]
    _feed_service(store, key=OTHER, uid=f"uid-of-{OTHER}", deleting=True)
    found = store.snapshot(given.KEY)
    assert found is not None and found.siblings == ()


def test_with_a_quota_a_services_spec_affects_the_others_and_its_status_does_not() -> None:
    store = _store()
    _feed(store, names.SERVING_PROFILE, _limited())
    uid = f"uid-of-{OTHER}"
    assert _feed_service(store, key=OTHER, uid=uid, status={"replicas": 1}) == {OTHER}
    changed = {"model": given.MODEL, "replicas": 4}
    assert _feed_service(store, key=OTHER, uid=uid, spec=changed) == {OTHER, given.KEY}
    assert _feed_service(store, key=OTHER, uid=uid, spec=changed, gone=True) == {OTHER, given.KEY}


GONE: dict[str, dict[str, Any]] = {
    reason: {"status": {"phase": "Failed", "reason": reason, "message": "why"}}
    for reason in (
        "Evicted",
        "UnexpectedAdmissionError",
        "OutOfcpu",
        "NodeAffinity",
        "Preempting",
        "Terminated",
        "NodeShutdown",
        "DeadlineExceeded",
        "",
    )
} | {
    "Succeeded": {"status": {"phase": "Succeeded"}},
    "still Ready": {
        "status": {"phase": "Failed", "conditions": [{"type": "Ready", "status": "True"}]}
    },
    "being deleted": {"deleted": "2026-01-02T03:05:05Z"},
    "deleted and ended": {"deleted": "2026-01-02T03:05:05Z", "status": {"phase": "Failed"}},
}


@pytest.mark.parametrize("fields", GONE.values(), ids=GONE)
@pytest.mark.parametrize("make", [fakes.pod_body, fakes.worker_body])
def test_pods_that_ended_or_are_being_deleted_are_gone(
    fields: dict[str, Any], make: Callable[..., dict[str, Any]]
) -> None:
    store = Store()
    _feed_service(store)
    for name, given_fields in (("gone", fields), ("current", {})):
        body = make("r", name=name, uid=name, status=given_fields.get("status"))
        if "deleted" in given_fields:
            body["metadata"]["deletionTimestamp"] = given_fields["deleted"]
            body["metadata"]["deletionGracePeriodSeconds"] = 60
        assert _feed(store, "Pod", body) == {given.KEY}
    found = store.snapshot(given.KEY)
    assert found is not None
    current = found.pods if make is fakes.pod_body else found.workers
    assert [pod.name for pod in current] == ["current"]
    assert [pod.name for pod in found.gone] == ["gone"]
    assert [pod.name for pod in store.pods(given.KEY)] == [pod.name for pod in found.pods]


def test_a_pod_that_is_being_deleted_has_the_time_of_the_request_and_of_its_end() -> None:
    store = Store()
    _feed_service(store)
    body = fakes.pod_body("r")
    body["metadata"] |= {
        "deletionTimestamp": "2026-01-02T03:05:05Z",
        "deletionGracePeriodSeconds": 60,
    }
    _feed(store, "Pod", body)
    found = store.snapshot(given.KEY)
    assert found is not None
    (pod,) = found.gone
    assert (pod.gone_at, pod.delete_by) == ("2026-01-02T03:04:05Z", "2026-01-02T03:05:05Z")
