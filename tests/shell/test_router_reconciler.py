"""Reconciles of a namespace's router, with a cluster that records its calls."""

import asyncio
from typing import Any

import pytest

from slipstream_operator import errors, kinds, names
from slipstream_operator.core import router_config
from slipstream_operator.core.observed import Key, Ref, router_key
from slipstream_operator.shell.queue import Queue
from slipstream_operator.shell.route_reconciler import RouteReconciler
from slipstream_operator.shell.router_reconciler import (
    CONFLICT_RETRY,
    TOKEN_EVERY,
    RouterReconciler,
)
from slipstream_operator.shell.service_reconciler import LEAVE_SECONDS, ServiceReconciler
from slipstream_operator.shell.service_states import ServiceStates
from slipstream_operator.shell.store import Store
from tests.support import fakes, given

ROUTER = "slipstream-router"
TOKEN = Ref("Secret", given.NAMESPACE, "slipstream-router-token")
ENGINE_TOKENS = Ref("Secret", given.NAMESPACE, "slipstream-engine-tokens")
CONFIG = Ref("ConfigMap", given.NAMESPACE, ROUTER)
DIRECT: dict[str, Any] = {"model": given.MODEL, "routing": {"mode": "Direct"}}
OTHER = Key(given.NAMESPACE, "other")


class World:
    """Reconcilers of services, routers and routes over one store."""

    def __init__(self) -> None:
        self.store, self.states, self.queue = Store(), ServiceStates(), Queue()
        self.clock, self.cluster = fakes.Clock(), fakes.Cluster()
        self.metrics = fakes.Metrics()
        self.cluster.on_change = self._seen
        common: dict[str, Any] = {
            "store": self.store,
            "states": self.states,
            "cluster": self.cluster,
            "clock": self.clock,
            "telemetry": fakes.telemetry(),
        }
        self.services = ServiceReconciler(
            queue=self.queue, events=fakes.Events(), progress=fakes.Progress(), **common
        )
        self.routers = RouterReconciler(queue=self.queue, **common)
        self.routes = RouteReconciler(metrics=self.metrics, **common)
        self.store.feed(names.SERVING_PROFILE, fakes.profile_body(), gone=False)

    def _seen(self, kind: str, body: dict[str, Any], gone: bool) -> None:
        """Feed the store as the watches would; Secrets are not watched."""
        if kinds.BY_NAME[kind].read == "watched":
            self.store.feed(kind, body, gone=gone)

    def writes(self, spec: Any = None, *, key: Key = given.KEY, gone: bool = False) -> None:
        body = fakes.service_body(spec, key=key, uid=f"uid-of-{key.name}")
        self.store.feed(names.INFERENCE_SERVICE, body, gone=gone)

    def writes_route(self, spec: dict[str, Any], *, status: dict[str, Any] | None = None) -> Key:
        key = Key(given.NAMESPACE, "split", names.INFERENCE_ROUTE)
        body = fakes.service_body(spec, key=key, uid="uid-of-split", status=status)
        self.store.feed(names.INFERENCE_ROUTE, body, gone=False)
        return key

    async def reconcile(self, *keys: Key) -> float | None:
        """Reconcile the services, and then the router."""
        for key in keys or (given.KEY,):
            await self.services.reconcile(key)
        return await self.routers.reconcile(given.NAMESPACE)

    def listed(self, key: Key = given.KEY) -> Any:
        return self.store.listed(key).entry

    def status(self) -> dict[str, Any]:
        """Status of the service as last written."""
        return self.cluster.statuses[-1]

    def parts(self) -> dict[str, str]:
        """Texts of the parts of the router's configuration."""
        return {
            ref.name: body["data"]["router.json"]
            for ref, body in self.cluster.objects.items()
            if ref.kind == "ConfigMap" and ref.name.startswith(f"{ROUTER}-")
        }

    async def queued(self) -> set[Key]:
        """Take all keys from the queue."""
        found = set()
        while len(self.queue):
            key = await self.queue.get()
            self.queue.done(key)
            found.add(key)
        return found

    def kinds(self) -> set[str]:
        return {ref.kind for ref in self.cluster.objects if ref.name.startswith(ROUTER)}


async def test_the_router_is_created_with_the_first_service_and_deleted_with_the_last() -> None:
    world = World()
    world.writes()
    await world.reconcile()
    await world.reconcile()  # its ServiceAccount exists now
    made = {"Deployment", "Service", "ServiceAccount", "Role", "ConfigMap", "Secret"}
    assert world.kinds() >= made
    assert world.listed()["name"] == given.NAME
    world.writes(gone=True)
    await world.reconcile()
    assert world.kinds() == {"Secret"}  # which goes with the ServiceAccount, its owner


async def test_a_reconciled_service_queues_its_router() -> None:
    world = World()
    world.writes()
    await world.services.reconcile(given.KEY)
    assert await world.queue.get() == router_key(given.NAMESPACE)


async def test_the_router_is_not_configured_before_every_service_was_reconciled() -> None:
    world = World()
    world.writes()
    world.writes(key=OTHER)
    await world.reconcile(given.KEY)
    assert not world.kinds()
    await world.reconcile(OTHER)
    assert world.listed() is not None
    assert world.listed(OTHER) is not None


async def test_a_new_leader_drops_no_service_from_a_working_router() -> None:
    world = World()
    world.writes()
    world.writes(key=OTHER)
    await world.reconcile(given.KEY, OTHER)
    await world.reconcile(given.KEY, OTHER)
    before = world.cluster.objects[CONFIG]
    for key in (given.KEY, OTHER):
        world.states.forget(key)
    await world.reconcile(OTHER)
    assert world.cluster.objects[CONFIG] == before
    await world.reconcile(given.KEY)
    assert world.cluster.objects[CONFIG] == before


async def test_after_a_restart_an_invalid_service_keeps_its_entry_in_the_router() -> None:
    world = World()
    keyed = {"model": given.MODEL, "routing": {"apiKeys": {"name": "keys"}}}
    world.writes(keyed)
    await world.reconcile()
    await world.reconcile()
    before = dict(world.cluster.objects)
    world.states.forget(given.KEY)
    world.writes({**keyed, "accelerator": {"type": "abacus"}})
    await world.reconcile()
    assert {ref: world.cluster.objects[ref] for ref in before} == before


async def test_without_a_change_nothing_is_written() -> None:
    world = World()
    world.writes()
    await world.reconcile()
    await world.reconcile()
    world.cluster.calls.clear()
    assert await world.routers.reconcile(given.NAMESPACE) == TOKEN_EVERY
    assert world.cluster.calls == []


async def test_the_token_is_created_after_its_service_account_and_checked_at_intervals() -> None:
    world = World()
    world.writes()
    await world.reconcile()
    await world.reconcile()
    assert world.cluster.calls.count(("create", str(TOKEN))) == 1
    world.clock.seconds += TOKEN_EVERY
    await world.reconcile()
    assert world.cluster.calls.count(("create", str(TOKEN))) == 2
    assert world.cluster.calls.count(("read", str(TOKEN))) == 1


@pytest.mark.parametrize("secret", [TOKEN, ENGINE_TOKENS])
async def test_another_owners_secret_is_not_touched_and_nothing_starts_with_it(secret: Ref) -> None:
    world = World()
    world.cluster.strangers(secret)
    world.writes()
    await world.routers.reconcile(given.NAMESPACE)
    await world.services.reconcile(given.KEY)
    await world.routers.reconcile(given.NAMESPACE)
    assert await world.routers.reconcile(given.NAMESPACE) == CONFLICT_RETRY
    assert "Deployment" not in world.kinds()
    await world.reconcile()
    assert world.cluster.objects[secret] == {"metadata": {"uid": "uid-of-a-stranger"}}
    reason, message = _reconciling(world)
    assert reason == "NameConflict"
    assert message.startswith("The router can't be changed")
    assert f"{secret} already exists and belongs to another owner" in message

    world.writes(key=OTHER)
    await world.reconcile(OTHER)
    (engines,) = (
        body
        for ref, body in world.cluster.objects.items()
        if ref.kind == "Deployment" and ref.name.startswith("other-")
    )
    assert engines["spec"]["replicas"] == 0

    del world.cluster.objects[secret]
    await world.reconcile(given.KEY, OTHER)
    await world.reconcile(given.KEY, OTHER)
    assert "Deployment" in world.kinds()


async def test_each_service_has_a_token_that_stays_until_the_service_is_deleted() -> None:
    world = World()
    world.writes()
    await world.reconcile()
    await world.reconcile()
    before = dict(world.cluster.objects[ENGINE_TOKENS]["data"])
    assert set(before) == {f"uid-of-{given.NAME}"}
    world.writes(key=OTHER)
    await world.reconcile(OTHER)
    both = dict(world.cluster.objects[ENGINE_TOKENS]["data"])
    assert set(both) == {f"uid-of-{given.NAME}", "uid-of-other"}
    assert before.items() <= both.items()
    assert len(set(both.values())) == 2
    (revision,) = world.listed(OTHER)["revisions"]
    assert revision["token"] == "uid-of-other"

    new_leader = RouterReconciler(
        store=world.store, states=world.states, queue=world.queue, cluster=world.cluster,
        clock=world.clock, telemetry=fakes.telemetry(),
    )  # fmt: skip
    await new_leader.reconcile(given.NAMESPACE)
    assert world.cluster.objects[ENGINE_TOKENS]["data"] == both
    world.writes(key=OTHER, gone=True)
    await world.reconcile(OTHER)
    assert world.cluster.objects[ENGINE_TOKENS]["data"] == before


async def test_a_revision_of_an_older_operator_keeps_the_token_of_the_router() -> None:
    world = World()
    world.writes()
    await world.reconcile()
    (old,) = world.listed()["revisions"]
    ref = Ref("ConfigMap", given.NAMESPACE, old["name"])
    body = world.cluster.objects[ref]
    template = body["data"]["template.json"].replace(names.ENGINE_TOKENS, names.ROUTER_TOKEN)
    changed = {**body, "data": {**body["data"], "template.json": template}}
    world.store.feed("ConfigMap", changed, gone=False)
    await world.reconcile()
    (kept,) = world.listed()["revisions"]
    assert "token" not in kept


async def test_another_owners_deployment_is_not_touched_and_the_router_is_retried() -> None:
    world = World()
    deployment = Ref("Deployment", given.NAMESPACE, ROUTER)
    world.cluster.strangers(deployment)
    world.writes()
    await world.reconcile()
    assert await world.reconcile() == CONFLICT_RETRY
    assert world.cluster.objects[deployment] == {"metadata": {"uid": "uid-of-a-stranger"}}


@pytest.mark.parametrize("kind", ["ConfigMap", "Deployment", "Role", "Service"])
async def test_a_router_whose_name_is_taken_is_reported_by_its_services(kind: str) -> None:
    world = World()
    stranger = Ref(kind, given.NAMESPACE, ROUTER)
    world.cluster.strangers(stranger)
    world.writes()
    await world.reconcile()
    await world.routers.reconcile(given.NAMESPACE)
    assert given.KEY in await world.queued()
    await world.reconcile()
    reason, message = _reconciling(world)
    assert reason == "NameConflict"
    assert f"{kind} {ROUTER} already exists and belongs to another owner" in message

    del world.cluster.objects[stranger]
    await world.reconcile()
    await world.reconcile()
    assert given.KEY in await world.queued()
    assert "NameConflict" not in {entry["reason"] for entry in world.status()["conditions"]}


async def test_a_configuration_that_is_not_accepted_is_reported_with_the_weights_that_stay() -> (
    None
):
    world = World()
    world.writes()
    await world.reconcile()
    await world.reconcile()
    available(world)
    world.cluster.fails["apply", f"ConfigMap {ROUTER}"] = errors.Rejected("422: Too long")
    world.writes({"model": given.MODEL, "cache": {"responses": {"ttl": "1m"}}})
    await world.reconcile()
    await world.reconcile()
    reason, message = _reconciling(world)
    assert reason == "Rejected"
    assert message.startswith("The router can't be changed, and keeps its last configuration: ")
    assert message.endswith(f"ConfigMap {ROUTER} could not be applied: 422: Too long")


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes with which a dozen services need parts."""
    monkeypatch.setattr(router_config, "WHOLE_BYTES", 16 * 1024)
    monkeypatch.setattr(router_config, "PART_BYTES", 8 * 1024)


@pytest.mark.usefixtures("small_parts")
async def test_a_configuration_that_is_too_large_for_one_object_has_parts() -> None:
    world = World()
    adapters = [{"name": f"a{n}" + "x" * 50, "uri": "hf://a/b"} for n in range(32)]
    spec = {"model": {**given.MODEL, "adapters": adapters}, "routing": {}}
    keys = [Key(given.NAMESPACE, f"chat-{number}") for number in range(12)]
    for key in keys:
        world.writes({**spec, "model": {**spec["model"], "name": key.name}}, key=key)
    await world.reconcile(*keys)
    await world.reconcile(*keys)
    maps = world.parts()
    assert len(maps) > 1
    assert all(len(text) <= router_config.PART_BYTES for text in maps.values())
    role = world.cluster.objects[Ref("Role", given.NAMESPACE, ROUTER)]
    assert set(role["rules"][0]["resourceNames"]) == {ROUTER, *maps}
    assert all(world.listed(key)["model"] == key.name for key in keys)

    for key in keys[1:]:
        world.writes(spec, key=key, gone=True)
    await world.reconcile(*keys)
    await world.reconcile(*keys)
    assert world.parts() == {}
    assert world.listed(keys[0])["model"] == "chat-0"


@pytest.mark.usefixtures("small_parts")
async def test_a_part_that_is_refused_leaves_the_last_configuration() -> None:
    world = World()
    world.writes()
    await world.reconcile()
    before = world.cluster.objects[CONFIG]["data"]
    adapters = [{"name": f"a{n}" + "x" * 50, "uri": "hf://a/b"} for n in range(32)]
    keys = [Key(given.NAMESPACE, f"chat-{number}") for number in range(12)]
    for key in keys:
        world.writes({"model": {**given.MODEL, "name": key.name, "adapters": adapters}}, key=key)
    world.cluster.refused = lambda ref: (
        ref.kind == "ConfigMap" and ref.name.startswith(f"{ROUTER}-")
    )
    assert await world.reconcile(given.KEY, *keys) == CONFLICT_RETRY
    assert world.cluster.objects[CONFIG]["data"] == before


async def test_an_object_that_the_api_server_rejects_is_retried() -> None:
    world = World()
    world.writes()
    world.cluster.fails["create", f"Role {ROUTER}"] = errors.Rejected("403: escalation")
    assert await world.reconcile() == CONFLICT_RETRY
    world.cluster.fails.clear()
    await world.reconcile()
    assert "Role" in world.kinds()


def _reconciling(world: World) -> tuple[str, str]:
    """Reason and message of the condition Reconciling."""
    (found,) = (e for e in world.status()["conditions"] if e["type"] == "Reconciling")
    assert found["status"] == "True"
    return found["reason"], found["message"]


def available(world: World) -> None:
    body = world.cluster.objects[Ref("Deployment", given.NAMESPACE, ROUTER)]
    world.store.feed("Deployment", {**body, "status": {"availableReplicas": 2}}, gone=False)


async def test_a_service_that_leaves_the_router_is_still_served_for_a_while() -> None:
    world = World()
    world.writes({"runtime": "simulator"})
    await world.reconcile()
    await world.reconcile()
    available(world)
    assert world.store.listed(given.KEY).available
    world.writes({"runtime": "simulator", "routing": {"mode": "Direct"}})
    await world.reconcile()
    service = world.cluster.objects[Ref("Service", given.NAMESPACE, given.NAME)]
    assert names.REVISION_LABEL in service["spec"]["selector"]
    assert world.listed() is not None
    world.clock.seconds += LEAVE_SECONDS - 1
    await world.reconcile()
    assert world.listed() is not None
    world.clock.seconds += 1
    await world.reconcile()
    assert world.listed() is None
    assert world.kinds() == {"Secret"}


SPLIT: dict[str, Any] = {"model": "public", "backends": [{"service": "chat"}]}


def _condition(status: dict[str, Any], kind: str) -> tuple[str, str]:
    (found,) = (entry for entry in status["conditions"] if entry["type"] == kind)
    return found["status"], found["reason"]


async def test_a_route_is_configured_in_the_router_and_its_state_reported() -> None:
    world = World()
    world.writes()
    route = world.writes_route(SPLIT)
    await world.reconcile()
    await world.reconcile()
    assert set(world.store.router(given.NAMESPACE).listed_routes) == {"split"}
    await world.routes.reconcile(route)
    assert _condition(world.cluster.statuses[-1], "Available") == ("False", "RouterNotReady")
    available(world)
    await world.routes.reconcile(route)
    assert _condition(world.cluster.statuses[-1], "Available") == ("False", "BackendsNotReady")


@pytest.mark.parametrize("again", [1, 2])
async def test_routes_of_one_prometheus_share_a_round_of_queries(again: int) -> None:
    world = World()
    world.writes()
    route = world.writes_route(SPLIT)
    await world.reconcile()
    for _ in range(again):
        await world.routes.reconcile(route)
    assert len(world.metrics.asked) == 2


async def test_an_unchanged_route_status_is_not_written() -> None:
    world = World()
    world.writes()
    route = world.writes_route(SPLIT)
    await world.reconcile()
    await world.routes.reconcile(route)
    world.writes_route(SPLIT, status=world.cluster.statuses[-1])
    world.cluster.calls.clear()
    await world.routes.reconcile(route)
    assert world.cluster.calls == []


class Broken:
    """A Prometheus adapter with a bug."""

    async def query(self, *_: object) -> Any:
        raise RuntimeError("a bug")


async def test_a_fault_on_one_route_is_its_condition() -> None:
    world = World()
    world.writes()
    route = world.writes_route(SPLIT)
    await world.reconcile()
    world.routes._metrics = Broken()  # type: ignore[assignment]
    with pytest.raises(RuntimeError):
        await world.routes.reconcile(route)
    assert _condition(world.cluster.statuses[-1], "Stalled") == ("True", "ReconcileFailed")


async def test_a_fault_on_a_router_is_reported_by_what_uses_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    world.writes()
    with monkeypatch.context() as broken, pytest.raises(TypeError):
        broken.setattr(router_config, "resolve", None)
        await world.reconcile()
    problem = world.states.router_problem(given.NAMESPACE)
    assert problem is not None and problem.reason == "ReconcileFailed"
    assert given.KEY in {await world.queue.get() for _ in range(len(world.queue))}
    await world.reconcile()
    assert world.states.router_problem(given.NAMESPACE) is None


class Late(fakes.Metrics):
    """A Prometheus that never answers."""

    async def query(self, *arguments: Any) -> Any:
        await super().query(*arguments)
        await asyncio.Event().wait()


async def test_routes_of_a_slow_prometheus_hold_a_worker_for_two_seconds_in_all() -> None:
    world = World()
    world.writes()
    route = world.writes_route(SPLIT)
    await world.reconcile()
    world.routes._metrics = late = Late()
    loop = asyncio.get_running_loop()
    started = loop.time()
    for _ in range(20):
        before = loop.time()
        await world.routes.reconcile(route)
        world.clock.seconds += loop.time() - before
    assert loop.time() - started < 3
    assert len(late.asked) == 2


async def test_keys_that_the_router_refuses_are_in_the_status_of_their_service() -> None:
    world = World()
    world.writes({"model": given.MODEL, "routing": {"apiKeys": {"name": "keys"}}})
    world.writes(key=OTHER)
    await world.reconcile(given.KEY, OTHER)
    await world.reconcile(given.KEY, OTHER)
    lease = Ref("Lease", given.NAMESPACE, ROUTER)
    (rule,) = [
        rule
        for rule in world.cluster.objects[Ref("Role", given.NAMESPACE, ROUTER)]["rules"]
        if rule["resources"] == ["leases"]
    ]
    assert rule["resourceNames"] == [ROUTER]
    body = world.cluster.objects[lease]
    for report, reason in (
        ('{"chat": {"refused": ["team-a"], "omitted": 0}}', "KeysRefused"),
        ('{"chat": {"missing": true}}', "KeysMissing"),
        ("{}", None),
    ):
        annotations = {**body["metadata"]["annotations"], "slipstream.dev/keys": report}
        metadata = {**body["metadata"], "annotations": annotations}
        changed = set(world.store.feed("Lease", {**body, "metadata": metadata}, gone=False))
        assert changed >= {given.KEY}
        assert OTHER not in changed
        world.cluster.calls.clear()
        await world.reconcile()
        assert ("apply", f"Lease {ROUTER}") not in world.cluster.calls
        found = {one["type"]: one["reason"] for one in world.status()["conditions"]}
        assert found.get("KeysRefused") == reason


async def test_a_router_without_keys_has_no_lease() -> None:
    world = World()
    world.writes()
    await world.reconcile()
    await world.reconcile()
    assert "Lease" not in world.kinds()
