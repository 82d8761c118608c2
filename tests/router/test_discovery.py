"""Watches of the API server: configuration, engines that start and drain, watches that break off."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from slipstream_runtime import contract
from slipstream_runtime.router.cluster import discovery, slices
from slipstream_runtime.router.cluster.client import Cluster
from tests.support import apiserver, backends
from tests.support.apiserver import CONFIG_MAPS, SECRETS, SLICES, ApiServer
from tests.support.backends import Backend
from tests.support.routers import Running, routing, service, until

NAME = contract.ROUTER_NAME


@contextlib.asynccontextmanager
async def following(router: Running, api: ApiServer, token: str = "t") -> AsyncIterator[Cluster]:
    tokens = iter(f"{token}{number}" for number in range(1000))
    async with Cluster(api.url, token=lambda: next(tokens)) as cluster:
        task = asyncio.create_task(
            discovery.follow(
                router.router,
                cluster,
                namespace="team",
                name=NAME,
                chance=lambda: 0.0,
                own="router-own",
            )
        )
        try:
            yield cluster
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def configure(api: ApiServer, *services: dict[str, Any], text: str | None = None) -> None:
    document = text or json.dumps({"namespace": "team", "services": services})
    api.apply(CONFIG_MAPS, NAME, data={contract.ROUTER_CONFIG_KEY: document})


def place(api: ApiServer, *engines: Backend, **conditions: bool) -> None:
    found = {"ready": True, "serving": True, "terminating": False, **conditions}
    endpoints = [
        {
            "addresses": ["127.0.0.1"],
            "conditions": found,
            "targetRef": {"kind": "Pod", "name": f"pod-{engine.port}"},
        }
        for engine in engines
    ]
    api.apply(
        SLICES,
        "chat-1-abc",
        metadata={
            "labels": {"kubernetes.io/service-name": "chat-1", **slices.OURS},
            "ownerReferences": [{"kind": "Service", "name": "chat-1"}],
        },
        addressType="IPv4",
        ports=[{"name": "http", "port": engines[0].port if engines else 8000}],
        endpoints=endpoints,
    )


def names(router: Running) -> list[str]:
    return [e.name for s in router.router.table.services() for e in s.pool]


async def test_engines_come_and_drain_as_their_slices_say() -> None:
    async with backends.running() as (engine,), routing() as router, apiserver.running() as api:
        configure(api, service(model="named"))
        async with following(router, api):
            await until(lambda: api.watching(SLICES) == api.watching(CONFIG_MAPS) == 1)
            assert router.chat.settings.model == "named"
            place(api, engine)
            await until(lambda: names(router) == [f"pod-{engine.port}"])
            assert (await router.ask(model="named")).status == 200

            place(api, engine, ready=False, terminating=True)
            await until(lambda: names(router) == [])
            place(api, engine)
            await until(lambda: names(router) != [])
            api.delete(SLICES, "chat-1-abc")
            await until(lambda: names(router) == [])


async def test_foreign_pods_get_no_request_while_the_configuration_names_them() -> None:
    async with (
        backends.running(2) as (engine, other),
        routing() as router,
        apiserver.running() as api,
    ):
        configure(api, service(model="named", foreign=[f"pod-{other.port}"]))
        async with following(router, api):
            place(api, engine, other)
            await until(lambda: names(router) == [f"pod-{engine.port}"])
            configure(api, service(model="named"))
            await until(lambda: len(names(router)) == 2)
            configure(api, service(model="named", foreign=[f"pod-{other.port}"]))
            await until(lambda: names(router) == [f"pod-{engine.port}"])


async def test_a_configuration_that_is_wrong_is_refused_and_the_one_before_stays() -> None:
    async with routing() as router, apiserver.running() as api:
        configure(api, service(model="first"))
        async with following(router, api):
            await until(lambda: router.chat.settings.model == "first")
            configure(api, text='{"namespace": "team", "services": [{"name": "chat"}]}')
            configure(api, text="{")
            configure(api, service(model="second"))
            await until(lambda: router.chat.settings.model == "second")


def put_part(api: ApiServer, name: str, *services: dict[str, Any]) -> None:
    text = json.dumps({"services": services, "routes": []})
    api.apply(CONFIG_MAPS, name, data={"router.json": text})


async def test_a_configuration_in_parts_applies_once_all_are_there() -> None:
    async with routing() as router, apiserver.running() as api:
        configure(api, service(model="whole"))
        async with following(router, api):
            await until(lambda: router.chat.settings.model == "whole")
            put_part(api, "part-1", service(model="in-parts"))
            content = {"namespace": "team", "services": [], "parts": ["part-1", "part-2"]}
            configure(api, text=json.dumps(content))
            await until(lambda: api.misses.count("part-2") > 1)
            assert router.chat.settings.model == "whole"
            put_part(api, "part-2", service(name="other", model="other"))
            await until(lambda: router.chat.settings.model == "in-parts")
            assert {s.settings.name for s in router.router.table.services()} == {"chat", "other"}

            put_part(api, "part-3", service(name="other", model="changed"))
            content["parts"] = ["part-1", "part-3"]
            configure(api, text=json.dumps(content))
            found = router.router.table.services
            await until(lambda: "changed" in {s.settings.model for s in found()})
            assert api.gets.count("part-1") == 1

            content["parts"] = ["part-1", "part-4"]
            configure(api, text=json.dumps(content))
            await until(lambda: api.misses.count("part-4") > 0)
            configure(api, service(model="whole again"))
            await until(lambda: [s.settings.model for s in found()] == ["whole again"])


async def test_a_watch_that_breaks_off_goes_on_where_it_ended() -> None:
    async with backends.running() as (engine,), routing() as router, apiserver.running() as api:
        configure(api, service())
        async with following(router, api):
            await until(lambda: api.watching(SLICES) == 1)
            place(api, engine)
            await until(lambda: names(router) != [])
            api.bookmark(SLICES, 500)
            api.break_off(SLICES)
            await until(lambda: (SLICES, "500") in api.watched_from)
            assert api.lists.count(SLICES) == 1
            assert names(router) != []


async def test_a_watch_that_expired_begins_anew() -> None:
    async with backends.running(2) as (old, new), routing() as router, apiserver.running() as api:
        configure(api, service())
        place(api, old)
        async with following(router, api):
            await until(lambda: api.watching(SLICES) == 1)
            api.expire(SLICES)
            await until(lambda: api.lists.count(SLICES) == 2)
            place(api, new)
            await until(lambda: names(router) == [f"pod-{new.port}"])


async def test_an_api_server_that_fails_costs_no_engine() -> None:
    async with backends.running() as (engine,), routing() as router, apiserver.running() as api:
        configure(api, service())
        place(api, engine)
        async with following(router, api):
            await until(lambda: api.watching(SLICES) == 1 and names(router) != [])
            api.failing = 4
            api.break_off(SLICES)
            api.break_off(CONFIG_MAPS)
            await until(lambda: api.failing == 0)
            assert names(router) == [f"pod-{engine.port}"]
            assert (await router.ask()).status == 200
            await until(lambda: api.watching(SLICES) == api.watching(CONFIG_MAPS) == 1)


def put_keys(api: ApiServer, secret: str, *keys: str) -> None:
    api.apply(SECRETS, secret, data={"team": base64.b64encode("\n".join(keys).encode()).decode()})


async def status(router: Running, key: str) -> int:
    return (await router.ask(headers={"authorization": f"Bearer {key}"})).status


def opens(router: Running, key: str) -> bool:
    """Whether the service needs keys, and this is one."""
    return router.chat.settings.keys and router.chat.client(key.encode()) is not None


async def test_keys_come_change_and_go_while_the_router_runs() -> None:
    async with backends.running() as (engine,), routing() as router, apiserver.running() as api:
        place(api, engine)
        put_keys(api, "keys", "one")
        put_keys(api, "more", "three")
        configure(api, service(keys=True, keySecret="keys"))
        async with following(router, api):
            await until(lambda: opens(router, "one") and bool(names(router)))
            assert await status(router, "one") == 200
            assert await status(router, "two") == 401

            put_keys(api, "keys", "two")
            await until(lambda: opens(router, "two"))
            assert await status(router, "one") == 401

            configure(api, service(keys=True, keySecret="more"))
            await until(lambda: opens(router, "three"))
            assert await status(router, "two") == 401
            assert await status(router, "three") == 200
            await until(lambda: api.watching(SECRETS) == 1)

            api.delete(SECRETS, "more")
            await until(lambda: not opens(router, "three"))
            assert await status(router, "three") == 401

            configure(api, service())
            await until(lambda: api.watching(SECRETS) == 0)
            assert await status(router, "any") == 200


async def test_a_secret_that_does_not_exist_opens_nothing_and_stops_no_router() -> None:
    async with backends.running() as (engine,), routing() as router, apiserver.running() as api:
        place(api, engine)
        configure(api, service(keys=True, keySecret="missing"))
        async with following(router, api):
            await until(lambda: router.chat.settings.keys and router.chat.keys_known)
            assert await status(router, "one") == 401


async def test_until_its_keys_can_be_read_a_service_asks_clients_to_come_back() -> None:
    async with backends.running() as (engine,), routing() as router, apiserver.running() as api:
        place(api, engine)
        put_keys(api, "keys", "one")
        api.forbidden.add("keys")
        configure(api, service(keys=True, keySecret="keys"), service(name="open", model="o"))
        async with following(router, api):
            await until(lambda: router.chat.settings.keys and bool(names(router)))
            answer = await router.ask(headers={"authorization": "Bearer one"})
            assert answer.status == 503
            assert "retry-after" in answer.headers
            assert (await router.ask(model="o")).status == 200
            api.forbidden.clear()
            await until(lambda: opens(router, "one"))
            assert await status(router, "one") == 200

            api.forbidden.add("keys")  # what was read stays
            api.break_off(SECRETS)
            await until(lambda: api.watching(SECRETS) == 0)
            assert await status(router, "one") == 200


async def test_a_router_is_not_ready_before_it_tried_to_read_the_keys() -> None:
    keyed = service(keys=True, keySecret="keys")
    async with routing(services=[keyed]) as router:
        assert not router.router.ready
        router.router.update_keys("keys", None)
        assert router.router.ready
        router.configure(keyed, service(name="new", model="n", keys=True, keySecret="new"))
        assert router.router.ready  # a new service keeps no other waiting


async def test_the_token_is_read_for_each_request() -> None:
    async with routing() as router, apiserver.running() as api:
        async with following(router, api):
            await until(lambda: api.watching(SLICES) == api.watching(CONFIG_MAPS) == 1)
        assert sorted(api.tokens) == [f"Bearer t{number}" for number in range(4)]


async def test_a_lease_is_renewed_with_the_time_of_now() -> None:
    async with routing() as router, apiserver.running() as api, following(router, api) as cluster:
        await cluster.renew(namespace="team", lease="chat-activation")
        [(path, name, patch)] = api.renewals
        assert path == "/apis/coordination.k8s.io/v1/namespaces/team/leases/chat-activation"
        assert name == "chat-activation"
        assert list(patch) == ["spec"]
        assert patch["spec"]["renewTime"].endswith("Z")
        assert len(patch["spec"]["renewTime"]) == len("2026-01-01T00:00:00.000000Z")


async def test_a_service_that_goes_takes_its_held_requests_with_it() -> None:
    async with routing() as router:
        asking = asyncio.create_task(router.ask())
        await until(lambda: router.chat.queued == 1)
        router.configure(service(name="other", model="o"))
        assert (await asking).status == 404
        assert (await router.ask()).status == 404


async def test_engines_get_the_token_of_their_service_from_the_secret_of_the_expected_owner() -> (
    None
):
    tokens = {"secret": "tokens", "owner": "uid-1"}
    chat = service(revisions=[{"name": "chat-1", "weight": 100, "token": "uid-of-chat"}])
    other = service(name="other", model="other", revisions=[{"name": "other-1", "weight": 100}])

    def configured(owner: str) -> str:
        found = {**tokens, "owner": owner}
        return json.dumps({"namespace": "team", "services": [chat, other], "engineTokens": found})

    def write(token: str, owner: str) -> None:
        data = {"uid-of-chat": base64.b64encode(token.encode()).decode()}
        metadata = {"ownerReferences": [{"kind": "ServiceAccount", "uid": owner}]}
        api.apply(SECRETS, "tokens", data=data, metadata=metadata)

    async with backends.running() as (engine,), routing() as router, apiserver.running() as api:
        write("known to a stranger", "uid-of-a-stranger")
        configure(api, text=configured("uid-1"))
        place(api, engine)
        async with following(router, api):
            await until(lambda: names(router) != [])
            await until(lambda: router.router.ready)
            await router.ask()
            assert "authorization" not in engine.received[-1].headers
            write("of chat", "uid-1")
            found = router.router.engine_tokens.value
            await until(lambda: found("chat-1") == "of chat")
            await router.ask()
            assert engine.received[-1].headers["authorization"] == "Bearer of chat"
            write("changed", "uid-1")
            await until(lambda: found("chat-1") == "changed")
            configure(api, text=configured("uid-2"))
            await until(lambda: found("chat-1") is None)
            write("of the new owner", "uid-2")
            await until(lambda: found("chat-1") == "of the new owner")


async def test_a_report_is_written_into_an_annotation_of_a_lease() -> None:
    async with routing() as router, apiserver.running() as api, following(router, api) as cluster:
        await cluster.annotate(namespace="team", lease="slipstream-router", annotations={"a": "{}"})
        [(_, name, patch)] = api.renewals
        assert (name, patch) == ("slipstream-router", {"metadata": {"annotations": {"a": "{}"}}})
