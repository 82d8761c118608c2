"""Polled kinds: objects that appear, change or disappear queue the services that they affect."""

import copy
from typing import Any

import pytest

from slipstream_operator import errors, names
from slipstream_operator.core.observed import GatewayState, Ref
from slipstream_operator.shell.polling import Poller
from slipstream_operator.shell.queue import Queue
from slipstream_operator.shell.store import Store
from tests.support import fakes, given

SPEC: dict[str, Any] = {
    "model": given.MODEL,
    "routing": {"mode": "Gateway", "gateway": {"name": "inference"}},
}
GATEWAY = Ref("Gateway", given.NAMESPACE, "inference")
POOL = Ref("InferencePool", given.NAMESPACE, given.NAME)


class World:
    """A service that names a Gateway, in a cluster that has the kinds unless said otherwise."""

    def __init__(self, *, kinds: bool = True) -> None:
        self.store, self.queue, self.cluster = Store(), Queue(), fakes.Cluster()
        self.poller = Poller(store=self.store, queue=self.queue, cluster=self.cluster)
        self.store.feed(names.INFERENCE_SERVICE, fakes.service_body(SPEC), gone=False)
        if kinds:
            self.defines()

    def defines(self, *, version: str = "v1", gone: bool = False) -> None:
        for kind in names.GATEWAY_CHILDREN:
            body = fakes.definition(kind, version=version)
            self.store.feed(names.CUSTOM_RESOURCE_DEFINITION, body, gone=gone)

    def has(self, ref: Ref, status: dict[str, Any]) -> None:
        rendered = given.rendered(given.observed(SPEC, gateway=GatewayState(kinds=True)))
        body = copy.deepcopy(
            given.find(rendered, ref.kind) if ref == POOL else {"metadata": {}, "spec": {}}
        )
        body["metadata"] |= {"name": ref.name, "namespace": ref.namespace, "uid": str(ref)}
        self.cluster.objects[ref] = {**body, "status": status}

    async def poll(self) -> int:
        """Poll once; return the number of keys that it queues."""
        before = len(self.queue)
        await self.poller.poll()
        return len(self.queue) - before

    @property
    def gateway(self) -> GatewayState:
        found = self.store.snapshot(given.KEY)
        assert found is not None
        return found.gateway


@pytest.mark.parametrize("version", [None, "v1alpha1"])
async def test_a_kind_that_the_cluster_lacks_is_not_listed(version: str | None) -> None:
    world = World(kinds=False)
    if version:
        world.defines(version=version)
    await world.poll()
    assert world.cluster.calls == []
    assert not world.gateway.kinds


async def test_a_gateway_that_appears_or_changes_queues_its_service() -> None:
    world = World()
    await world.poll()
    assert world.gateway == GatewayState(kinds=True)
    world.has(GATEWAY, {})
    assert await world.poll() == 1
    assert world.gateway == GatewayState(kinds=True, status={})
    await world.queue.get()
    world.queue.done(given.KEY)
    world.has(GATEWAY, {"addresses": [{"value": "192.0.2.7"}]})
    assert await world.poll() == 1


async def test_an_unchanged_object_queues_no_service() -> None:
    world = World()
    world.has(GATEWAY, {})
    await world.poll()
    await world.queue.get()
    world.queue.done(given.KEY)
    assert await world.poll() == 0


async def test_a_deleted_object_is_forgotten() -> None:
    world = World()
    world.has(GATEWAY, {})
    world.has(POOL, {})
    await world.poll()
    found = world.store.snapshot(given.KEY)
    assert found is not None
    assert [child.ref for child in found.children] == [POOL]
    world.cluster.objects.clear()
    await world.poll()
    found = world.store.snapshot(given.KEY)
    assert found is not None
    assert not found.children
    assert found.gateway.status is None


async def test_objects_are_forgotten_when_their_kind_is_deleted() -> None:
    world = World()
    world.has(POOL, {})
    await world.poll()
    world.defines(gone=True)
    await world.poll()
    found = world.store.snapshot(given.KEY)
    assert found is not None
    assert not found.children


async def test_leader_worker_sets_are_listed_once_the_cluster_has_the_kind() -> None:
    world = World(kinds=False)
    spread = {"model": given.MODEL, "parallelism": {"nodes": 2}}
    rendered = given.rendered(given.observed(spread, leader_worker_sets=True))
    body = copy.deepcopy(given.find(rendered, names.LEADER_WORKER_SET))
    ref = Ref(names.LEADER_WORKER_SET, given.NAMESPACE, body["metadata"]["name"])
    world.cluster.objects[ref] = {**body, "metadata": {**body["metadata"], "uid": "uid-1"}}
    assert await world.poll() == 0
    definition = fakes.definition(names.LEADER_WORKER_SET)
    world.store.feed(names.CUSTOM_RESOURCE_DEFINITION, definition, gone=False)
    assert await world.poll() == 1
    found = world.store.snapshot(given.KEY)
    assert found is not None
    assert found.leader_worker_sets
    assert [child.ref for child in found.children] == [ref]


async def test_without_an_answer_the_last_known_objects_stay() -> None:
    world = World()
    world.has(GATEWAY, {})
    await world.poll()
    world.cluster.fails["list", "Gateway"] = errors.Unavailable("down")
    with pytest.raises(errors.Unavailable):
        await world.poll()
    assert world.gateway.status == {}
