"""Stored responses: they are read, continued and cancelled at the replica that made them, by their tenant alone."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

from slipstream_runtime.web import openai
from tests.support import backends
from tests.support.routers import Reply, Running, routing, service, until

RESPONSES = openai.RESPONSES


class Store:
    """Behavior of vLLM with VLLM_ENABLE_RESPONSES_API_STORE=1."""

    def __init__(self) -> None:
        self.stored: dict[str, str] = {}
        self.queries: list[str] = []

    async def __call__(self, peer: backends.Peer, received: backends.Received) -> None:
        path, _, query = received.path.partition("?")
        if path == RESPONSES:
            body = received.content
            previous = body.get("previous_response_id")
            if previous is not None and previous not in self.stored:
                await peer.whole({"error": {"message": "not found"}}, 404)
                return
            self.stored[body["request_id"]] = "queued"
            await peer.whole({"id": body["request_id"], "status": "queued", "usage": None})
            return
        response_id = path.removeprefix(RESPONSES + "/").removesuffix("/cancel")
        if response_id not in self.stored:
            await peer.whole({"error": {"message": "not found"}}, 404)
            return
        self.queries.append(query)
        if path.endswith("/cancel"):
            self.stored[response_id] = "cancelled"
        if "stream=true" in query:
            await peer.stream()
            await peer.chunk(b'event: response.completed\ndata: {"type": "response.completed"}\n\n')
            await peer.write(b"0\r\n\r\n")
            return
        await peer.whole({"id": response_id, "status": self.stored[response_id]})


@contextlib.asynccontextmanager
async def stores(count: int) -> AsyncIterator[tuple[list[backends.Backend], list[Store]]]:
    async with backends.running(count) as engines:
        found = [Store() for _ in engines]
        for engine, store in zip(engines, found, strict=True):
            engine.always = store
        yield list(engines), found


async def create(router: Running, **fields: object) -> str:
    reply = await router.ask(RESPONSES, input="hi", background=True, **fields)
    assert reply.status == 200
    found: str = reply.content["id"]
    return found


async def cancel(router: Running, response_id: str) -> Reply:
    return await router.ask(f"{RESPONSES}/{response_id}/cancel")


async def test_a_response_is_read_and_cancelled_at_its_replica_by_any_router() -> None:
    async with stores(3) as (engines, _), routing(*engines) as one, routing(*engines) as another:
        made = [await create(one) for _ in range(6)]
        assert len({tuple(sorted(store.stored)) for store in [e.always for e in engines]}) == 3  # type: ignore[attr-defined]
        for response_id in made:
            for router in (one, another):
                found = await router.get(f"{RESPONSES}/{response_id}")
                assert (found.status, found.content["status"]) == (200, "queued")
        assert (await cancel(another, made[0])).content["status"] == "cancelled"
        assert (await one.get(f"{RESPONSES}/{made[0]}")).content["status"] == "cancelled"


async def test_a_response_is_continued_at_its_replica_whatever_the_weights() -> None:
    async with stores(3) as (engines, held), routing(*engines) as router:
        first = await create(router)
        [holder] = [store for store in held if first in store.stored]
        weights = [{"name": "chat-1", "weight": 0}, {"name": "chat-2", "weight": 100}]
        router.configure(service(revisions=weights))
        router.place({"chat-1": engines, "chat-2": []})
        for _ in range(4):
            reply = await router.ask(RESPONSES, input="on", previous_response_id=first)
            assert reply.status == 200
        assert len(holder.stored) == 5


async def test_a_route_continues_a_response_at_the_service_that_made_it() -> None:
    services = [
        service(),
        service(name="big", model="big", revisions=[{"name": "big-1", "weight": 100}]),
    ]
    routes = [
        {
            "name": "any",
            "model": "any",
            "backends": [{"service": "chat", "weight": 1}, {"service": "big", "weight": 1}],
        }
    ]
    async with stores(2) as (engines, held), routing(services=services) as router:
        router.configure(*services, routes=routes)
        router.place({"chat-1": engines[:1], "big-1": engines[1:]})
        first = await create(router, model="big")
        reply = await router.ask(RESPONSES, model="any", input="on", previous_response_id=first)
        assert reply.status == 200
        assert len(held[1].stored) == 2


async def test_only_the_tenant_of_a_response_reads_or_continues_it(tmp_path: Path) -> None:
    (tmp_path / "chat").mkdir()
    (tmp_path / "chat" / "red").write_text("r")
    (tmp_path / "chat" / "blue").write_text("b")
    red, blue = {"authorization": "Bearer r"}, {"authorization": "Bearer b"}
    async with (
        stores(1) as (engines, _),
        routing(*engines, services=[service(keys=True)], keys=tmp_path) as router,
    ):
        response_id = await create(router, headers=red)
        path = f"{RESPONSES}/{response_id}"
        assert (await router.get(path, **red)).status == 200
        assert (await router.get(path, **blue)).status == 404
        assert (await router.get(path)).status == 401
        asked = {"input": "on", "previous_response_id": response_id}
        assert (await router.ask(RESPONSES, headers=blue, **asked)).status == 404
        assert (await router.ask(RESPONSES, headers=red, **asked)).status == 200


async def test_a_response_whose_replica_is_gone_is_404_with_the_reason() -> None:
    async with stores(2) as (engines, held), routing(*engines) as router:
        response_id = await create(router)
        at = next(n for n, store in enumerate(held) if response_id in store.stored)
        held[at].stored.clear()  # its container restarted
        for _ in range(2):
            reply = await router.get(f"{RESPONSES}/{response_id}")
            assert reply.status == 404
            assert "in its memory until it stops" in reply.error["message"]
            continued = await router.ask(RESPONSES, input="x", previous_response_id=response_id)
            assert continued.status == 404
            router.engines(*[engine for n, engine in enumerate(engines) if n != at])
        assert (await router.get(f"{RESPONSES}/resp_unknown")).status == 404


async def test_a_request_that_waits_for_a_replica_that_leaves_is_refused() -> None:
    async with stores(2) as (engines, held), routing(*engines, limits={"concurrency": 1}) as router:
        response_id = await create(router)
        at = next(n for n, store in enumerate(held) if response_id in store.stored)
        busy = backends.Held()
        engines[at].script = [busy]
        first = asyncio.create_task(
            router.ask(RESPONSES, input="x", previous_response_id=response_id)
        )
        await until(lambda: busy.waiting == 1)
        second = asyncio.create_task(
            router.ask(RESPONSES, input="x", previous_response_id=response_id)
        )
        await until(lambda: router.chat.queued == 1)
        # A request that waits for one replica delays no other.
        assert (await router.ask(RESPONSES, input="x")).status == 200
        assert (await router.get(f"{RESPONSES}/{response_id}")).status == 200
        router.engines(*[engine for n, engine in enumerate(engines) if n != at])
        assert (await second).status == 404
        busy.release.set()
        await first


async def test_a_stored_response_streams_from_an_event_on() -> None:
    async with stores(1) as (engines, held), routing(*engines) as router:
        response_id = await create(router)
        reply = await router.get(f"{RESPONSES}/{response_id}?stream=true&starting_after=3&x=1")
        assert reply.whole
        assert b"response.completed" in reply.body
        assert held[0].queries == ["starting_after=3&stream=true"]
        assert await router.metric("slipstream_router_requests_total") == 1
        assert await router.metric("slipstream_router_time_to_first_token_seconds_count") == 0


async def test_a_response_that_is_not_stored_keeps_its_body() -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        body = json.dumps({"model": "m", "input": "x", "store": False}).encode()
        assert (await router.ask(RESPONSES, raw=body)).status == 200
        assert engine.received[0].body == body


async def test_work_in_the_background_is_paid_when_it_is_ordered(tmp_path: Path) -> None:
    (tmp_path / "chat").mkdir()
    digest = "454349e422f05297191ead13e21d3db520e5abef52055e4964b82fb213f593a1"  # of "r"
    (tmp_path / "chat" / "red").write_text(f"sha256: {digest}\ntokensPerMinute: 1000\n")
    red = {"authorization": "Bearer r"}
    async with (
        stores(1) as (engines, _),
        routing(*engines, services=[service(keys=True)], keys=tmp_path) as router,
    ):
        await create(router, headers=red, max_output_tokens=900)
        reply = await router.ask(RESPONSES, headers=red, input="x", max_output_tokens=900)
        assert reply.status == 429
