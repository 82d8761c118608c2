"""The store reports builds to their own reconciler, and what services see of them to those services."""

from typing import Any

from slipstream_operator import names
from slipstream_operator.core.observed import BuildView, Key
from slipstream_operator.shell.store import Store
from tests.support import fakes, given

BUILD = Key(given.NAMESPACE, "small", names.MODEL_BUILD)
USER = {"model": {"uri": "build://small"}}


def _build(status: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return fakes.service_body({"source": "hf://org/model"}, key=BUILD, status=status, **fields)


def _ready(digest: str) -> dict[str, Any]:
    return {"phase": "Ready", "artifact": {"uri": "pvc://models/small", "sha256": digest}}


def _views(store: Store) -> dict[str, BuildView]:
    observed = store.snapshot(given.KEY)
    assert observed is not None
    return dict(observed.builds)


def test_a_service_sees_the_builds_of_its_namespace() -> None:
    store = Store()
    store.feed(names.INFERENCE_SERVICE, fakes.service_body(USER), gone=False)
    store.feed(names.MODEL_BUILD, _build(_ready("aa")), gone=False)
    found = _views(store)["small"]
    assert (found.phase, found.artifact, found.digest) == ("Ready", "pvc://models/small", "aa")


def test_a_change_that_services_see_queues_those_that_name_the_build() -> None:
    store = Store()
    other = Key(given.NAMESPACE, "other")
    store.feed(names.INFERENCE_SERVICE, fakes.service_body(USER), gone=False)
    store.feed(names.INFERENCE_SERVICE, fakes.service_body(key=other, uid="o"), gone=False)
    keys = [store.feed(names.MODEL_BUILD, _build(_ready("aa")), gone=False)]
    keys.append(
        store.feed(names.MODEL_BUILD, _build(_ready("aa") | {"duration": "2s"}), gone=False)
    )
    keys.append(store.feed(names.MODEL_BUILD, _build(_ready("bb"), uid="new"), gone=False))
    assert [set(found) for found in keys] == [{BUILD, given.KEY}, {BUILD}, {BUILD, given.KEY}]


def test_an_artifact_without_its_hash_is_not_usable() -> None:
    store = Store()
    store.feed(names.INFERENCE_SERVICE, fakes.service_body(USER), gone=False)
    store.feed(names.MODEL_BUILD, _build({"phase": "Ready", "artifact": {"uri": "x"}}), gone=False)
    assert _views(store)["small"].artifact is None


def test_a_build_that_is_being_deleted_is_none() -> None:
    store = Store()
    store.feed(names.INFERENCE_SERVICE, fakes.service_body(USER), gone=False)
    store.feed(names.MODEL_BUILD, _build(_ready("aa")), gone=False)
    store.feed(names.MODEL_BUILD, _build(_ready("aa"), deleting=True), gone=False)
    assert _views(store) == {}


def test_a_pod_of_an_engine_that_also_has_the_label_of_a_build_stays_a_pod_of_the_service() -> None:
    store = Store()
    body = fakes.pod_body(given.identity())
    body["metadata"]["labels"][names.BUILD_LABEL] = "small"
    assert set(store.feed("Pod", body, gone=False)) == {given.KEY}


def _failed(message: str) -> dict[str, Any]:
    ended = {"terminated": {"exitCode": 1, "message": message}}
    status = {"containerStatuses": [{"name": "engine", "image": "i", "state": ended}]}
    return fakes.pod_body(given.identity(), status=status)


def test_an_engine_that_can_not_read_an_artifact_is_heard_by_its_build() -> None:
    store = Store()
    store.feed(names.INFERENCE_SERVICE, fakes.service_body(USER), gone=False)
    store.feed(names.MODEL_BUILD, _build(_ready("aa")), gone=False)
    failed = _failed("pvc://models/small: there is no folder")
    assert set(store.feed("Pod", failed, gone=False)) == {given.KEY, BUILD}
    observed = store.build(BUILD)
    assert observed is not None
    ((service, message),) = observed.complaints
    assert (service, "there is no folder" in message) == (given.NAME, True)
    assert set(store.feed("Pod", failed, gone=True)) == {given.KEY, BUILD}
    observed = store.build(BUILD)
    assert observed is not None and observed.complaints == ()
