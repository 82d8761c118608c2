"""A service whose model is a ModelBuild, from the watch event of the build to the revision of its artifact."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from slipstream_operator import names
from slipstream_operator.core.observed import Key, Ref
from slipstream_operator.shell.service_objects import ServiceIndex
from slipstream_operator.shell.store import Store
from tests.support import fakes, given
from tests.support.reconciles import DIRECT, STATUS, World

BUILD = Key(given.NAMESPACE, "small", names.MODEL_BUILD)
SPEC: dict[str, Any] = {"model": {"uri": "build://small"}, **DIRECT}
FIRST, SECOND = "a" * 64, "b" * 64


def _ready(digest: str = FIRST) -> dict[str, Any]:
    return {"phase": "Ready", "artifact": {"uri": "pvc://models/small", "sha256": digest}}


def _running(message: str) -> dict[str, Any]:
    condition = {
        "type": "Ready",
        "status": "False",
        "reason": "Building",
        "message": message,
        "lastTransitionTime": given.NOW,
    }
    return {"phase": "Running", "conditions": [condition]}


def _feed(
    store: Store, status: Mapping[str, Any], *, uid: str = "first", gone: bool = False
) -> set[Key]:
    body = fakes.service_body({"source": "hf://org/model"}, key=BUILD, status=status, uid=uid)
    return set(store.feed(names.MODEL_BUILD, body, gone=gone))


def _revision(digest: str) -> str:
    view = given.build("pvc://models/small", digest=digest)
    return given.identity(SPEC, builds=[view])


def _deployments(world: World) -> set[str]:
    return {ref.name for ref in world.cluster.objects if ref.kind == "Deployment"}


async def test_a_service_waits_for_its_build_and_starts_when_it_is_ready() -> None:
    world = World(SPEC)
    await world.reconcile()
    assert world.cluster.calls == [STATUS]
    assert world.condition("ModelReady") == ("False", "BuildMissing")
    assert given.KEY in _feed(world.store, _running("Step quantize: 40%, 3m left."))
    await world.reconcile()
    assert world.condition("ModelReady") == ("False", "BuildRunning")
    assert given.KEY in _feed(world.store, _ready())
    await world.reconcile()
    name = f"chat-{_revision(FIRST)}"
    assert _deployments(world) == {name}
    data = world.cluster.objects[Ref("ConfigMap", given.NAMESPACE, name)]["data"]
    assert json.loads(data["engine.json"])["model"]["uri"] == "pvc://models/small"
    assert json.loads(data["builds.json"])["spec.model.uri"]["digest"] == FIRST
    world.starts_pods(_revision(FIRST))
    await world.reconcile()
    assert world.condition("Ready") == ("True", "EnginesReady")


async def test_another_build_of_the_same_name_replaces_engines_that_serve_until_then() -> None:
    world = World(SPEC)
    _feed(world.store, _ready())
    await world.reconcile()
    world.starts_pods(_revision(FIRST))
    await world.reconcile()
    _feed(world.store, _ready(), gone=True)
    await world.reconcile()
    assert world.cluster.calls == [STATUS]
    assert world.condition("ModelReady") == ("True", "BuildMissing")
    _feed(world.store, _running("Step quantize: 40%, 3m left."), uid="second")
    await world.reconcile()
    assert world.cluster.calls == [STATUS]
    assert world.condition("ModelReady") == ("False", "BuildRunning")
    assert world.condition("Available") == ("True", "EnginesReady")
    _feed(world.store, _ready(SECOND), uid="second")
    await world.reconcile()
    assert _deployments(world) == {f"chat-{_revision(FIRST)}", f"chat-{_revision(SECOND)}"}
    world.starts_pods(_revision(SECOND))
    await world.reconcile()
    assert _deployments(world) == {f"chat-{_revision(SECOND)}"}
    assert world.condition("ModelReady") == ("True", "Loaded")


async def test_a_count_still_changes_while_the_build_runs() -> None:
    world = World(SPEC)
    _feed(world.store, _ready())
    await world.reconcile()
    _feed(world.store, _running("Step quantize: 40%."), uid="second")
    world.writes({**SPEC, "replicas": 3})
    await world.reconcile()
    deployment = Ref("Deployment", given.NAMESPACE, f"chat-{_revision(FIRST)}")
    assert world.cluster.objects[deployment]["spec"]["replicas"] == 3


async def test_engines_are_restored_while_the_build_runs_again_or_is_deleted() -> None:
    for status in (_running("Step quantize: 40%."), None):
        world = World(SPEC)
        _feed(world.store, _ready())
        await world.reconcile()
        _feed(world.store, status or _ready(), gone=status is None)
        deployment = Ref("Deployment", given.NAMESPACE, f"chat-{_revision(FIRST)}")
        uid = world.cluster.objects[deployment]["metadata"]["uid"]
        await world.cluster.delete(deployment, uid=uid)
        await world.reconcile()
        assert _deployments(world) == {f"chat-{_revision(FIRST)}"}


def test_a_change_of_a_build_visits_only_the_services_that_name_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store()
    for index in range(50):
        key = Key(given.NAMESPACE, f"other-{index}")
        store.feed(names.INFERENCE_SERVICE, fakes.service_body(key=key, uid=key.name), gone=False)
    users = {
        "model": {"model": {"uri": "build://small"}},
        "draft": {"model": given.MODEL, "speculation": {"draft": "build://small"}},
        "adapter": {"model": {**given.MODEL, "adapters": [{"name": "a", "uri": "build://small"}]}},
    }
    for name, spec in users.items():
        key = Key(given.NAMESPACE, name)
        store.feed(names.INFERENCE_SERVICE, fakes.service_body(spec, key=key, uid=name), gone=False)
    monkeypatch.delattr(ServiceIndex, "parents")
    assert _feed(store, _ready()) == {BUILD, *(Key(given.NAMESPACE, name) for name in users)}


@pytest.mark.parametrize(
    "spec",
    [
        {"model": []},
        {"model": {"uri": 3, "adapters": {"a": 1}}, "speculation": "x"},
        {"model": {"adapters": ["x", {"uri": None}]}, "speculation": {"draft": []}},
        {"model": {"uri": "build://a/b"}},
    ],
)
def test_a_malformed_source_names_no_build(spec: dict[str, Any]) -> None:
    store = Store()
    store.feed(names.INFERENCE_SERVICE, fakes.service_body(spec), gone=False)
    assert _feed(store, _ready()) == {BUILD}


def test_a_service_that_no_longer_names_a_build_is_not_queued_for_it() -> None:
    store = Store()
    store.feed(names.INFERENCE_SERVICE, fakes.service_body(SPEC), gone=False)
    assert given.KEY in _feed(store, _ready())
    store.feed(names.INFERENCE_SERVICE, fakes.service_body(), gone=False)
    assert _feed(store, _ready(SECOND)) == {BUILD}
    store.feed(names.INFERENCE_SERVICE, fakes.service_body(SPEC), gone=False)
    store.feed(names.INFERENCE_SERVICE, fakes.service_body(SPEC), gone=True)
    assert _feed(store, _ready(FIRST)) == {BUILD}
