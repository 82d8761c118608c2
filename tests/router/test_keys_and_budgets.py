"""API keys: tenants, models, priorities and token budgets."""

import asyncio
import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from tests.support import backends
from tests.support.backends import Held, Peer, Received
from tests.support.routers import CHAT, Reply, Running, routing, service, until

SECRET = "sk-very-secret"
LOCKED = service(keys=True, adapters=["m-legal"])


def document(**fields: Any) -> str:
    return json.dumps({"sha256": hashlib.sha256(SECRET.encode()).hexdigest(), **fields})


def keep(folder: Path, name: str, text: str, *, of: str = "chat") -> None:
    (folder / of).mkdir(exist_ok=True)
    (folder / of / name).write_text(text)


async def ask(router: Running, key: str = SECRET, **fields: Any) -> Reply:
    return await router.ask(headers={"authorization": f"Bearer {key}"}, **fields)


@pytest.mark.parametrize("text", [SECRET, f"other\n{SECRET}\n", document(), document(tenant="a")])
async def test_a_known_key_opens_the_service(tmp_path: Path, text: str) -> None:
    keep(tmp_path, "team-a", text)
    async with (
        backends.running() as (engine,),
        routing(engine, services=[LOCKED], keys=tmp_path) as router,
    ):
        assert (await ask(router)).status == 200
        assert "authorization" not in engine.received[0].headers


REFUSED = {
    "no key": {},
    "wrong key": {"authorization": "Bearer wrong"},
    "other scheme": {"authorization": f"Basic {SECRET}"},
    "its hash": {"authorization": "Bearer " + hashlib.sha256(SECRET.encode()).hexdigest()},
}


@pytest.mark.parametrize("headers", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("text", [SECRET, document()], ids=["plain", "document"])
async def test_an_unknown_key_is_401_and_nothing_reaches_the_engine(
    tmp_path: Path, text: str, headers: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    keep(tmp_path, "team-a", text)
    async with (
        backends.running() as (engine,),
        routing(engine, services=[LOCKED], keys=tmp_path) as router,
    ):
        with caplog.at_level(logging.DEBUG):
            reply = await router.ask(headers=headers)
        assert reply.status == 401
        assert reply.headers["www-authenticate"] == "Bearer"
        assert reply.error["type"] == "AuthenticationError"
        assert engine.received == []
        assert SECRET not in caplog.text


async def test_the_body_of_an_unknown_client_is_not_read(tmp_path: Path) -> None:
    async with routing(services=[LOCKED], keys=tmp_path) as router:
        head = f"POST {CHAT} HTTP/1.1\r\nHost: r\r\nContent-Type: application/json\r\n"
        answer = await router.raw(f"{head}Content-Length: 1000\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 401")


async def test_an_expired_key_is_401(tmp_path: Path) -> None:
    keep(tmp_path, "a", document(expires="2020-01-01T00:00:00Z"))
    async with routing(services=[LOCKED], keys=tmp_path) as router:
        assert (await ask(router)).status == 401


async def test_a_key_for_another_model_is_403(tmp_path: Path) -> None:
    keep(tmp_path, "a", document(models=["m-legal"]))
    async with (
        backends.running() as (engine,),
        routing(engine, services=[LOCKED], keys=tmp_path) as router,
    ):
        assert (await ask(router, model="m-legal")).status == 200
        reply = await ask(router)
        assert reply.status == 403
        assert reply.error["type"] == "PermissionDeniedError"


async def test_a_key_of_one_service_does_not_open_another(tmp_path: Path) -> None:
    other = service(name="other", model="o", keys=True)
    keep(tmp_path, "a", SECRET)
    async with (
        backends.running() as (engine,),
        routing(engine, services=[LOCKED, other], keys=tmp_path) as router,
    ):
        assert (await ask(router)).status == 200
        assert (await ask(router, model="o")).status == 401
        key = {"authorization": f"Bearer {SECRET}"}
        listed = (await router.get("/v1/models", **key)).content["data"]
        assert [each["id"] for each in listed] == ["m", "m-legal"]


async def test_a_key_document_that_is_wrong_opens_nothing_and_spoils_no_other(
    tmp_path: Path,
) -> None:
    keep(tmp_path, "bad", '{"sha256": "short", "tenant": "x"}')
    keep(tmp_path, "good", "sha256: " + hashlib.sha256(SECRET.encode()).hexdigest())
    async with (
        backends.running() as (engine,),
        routing(engine, services=[LOCKED], keys=tmp_path) as router,
    ):
        assert (await ask(router)).status == 200
        assert (await ask(router, key="short")).status == 401


async def test_the_engine_gets_the_routers_own_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("of-the-router\n")
    async with backends.running() as (engine,), routing(engine, token=tmp_path) as router:
        assert (await router.ask(headers={"authorization": "Bearer mine"})).status == 200
        assert engine.received[0].headers["authorization"] == "Bearer of-the-router"


async def test_requests_of_higher_priority_go_first_and_push_others_out(tmp_path: Path) -> None:
    keep(tmp_path, "low", "low-key")
    keep(tmp_path, "high", document(priority=10))
    locked = service(keys=True, limits={"queue": 2, "concurrency": 1})
    async with (
        backends.running() as (engine,),
        routing(services=[locked], keys=tmp_path) as router,
    ):
        low = []
        for number in range(2):
            low.append(asyncio.create_task(ask(router, "low-key", user=f"low {number}")))
            await until(lambda: router.chat.queued == len(low))
        high = asyncio.create_task(ask(router, user="high"))
        shed = await low[1]
        assert shed.status == 429
        assert shed.headers["retry-after"]
        assert (await ask(router, "low-key")).status == 429
        router.engines(engine)
        assert [(await each).status for each in (low[0], high)] == [200, 200]
        assert [each.content["user"] for each in engine.received] == ["high", "low 0"]


def budget(tokens: int) -> str:
    return document(tenant="a", tokensPerMinute=tokens)


def left(router: Running) -> float:
    level: float = router.chat.budgets.left("a")
    return level


async def test_concurrent_requests_cannot_overspend(tmp_path: Path) -> None:
    keep(tmp_path, "a", budget(1000))
    async with (
        backends.running() as (engine,),
        routing(engine, services=[LOCKED], keys=tmp_path) as router,
    ):
        engine.always = queued = Held()
        tasks = [asyncio.create_task(ask(router, max_tokens=300)) for _ in range(10)]
        await until(lambda: queued.waiting == 3 and sum(task.done() for task in tasks) == 7)
        refused = [task.result() for task in tasks if task.done()]
        assert {reply.status for reply in refused} == {429}
        assert all(int(reply.headers["retry-after"]) > 0 for reply in refused)
        queued.release.set()
        await asyncio.gather(*tasks)
        assert left(router) == pytest.approx(1000 - 3 * 10, abs=30)


async def test_a_request_that_no_minute_can_pay_is_told_so(tmp_path: Path) -> None:
    keep(tmp_path, "a", budget(100))
    async with routing(services=[LOCKED], keys=tmp_path) as router:
        reply = await ask(router, max_tokens=200)
        assert reply.status == 429
        assert "retry-after" not in reply.headers
        assert "max_tokens" in reply.error["message"]


async def test_choices_count_each(tmp_path: Path) -> None:
    keep(tmp_path, "a", budget(1000))
    async with (
        backends.running() as (engine,),
        routing(engine, services=[LOCKED], keys=tmp_path) as router,
    ):
        assert (await ask(router, max_tokens=400, n=3)).status == 429
        assert (await ask(router, max_tokens=400, best_of=3)).status == 429
        assert (await ask(router, max_tokens=400, n=2)).status == 200


async def test_each_prompt_of_a_completion_counts(tmp_path: Path) -> None:
    keep(tmp_path, "a", budget(1000))
    async with (
        backends.running() as (engine,),
        routing(engine, services=[LOCKED], keys=tmp_path) as router,
    ):
        many = {"path": "/v1/completions", "max_tokens": 400}
        assert (await ask(router, **many, prompt=["a", "b", "c"])).status == 429
        assert (await ask(router, **many, prompt=["a", "b"])).status == 200


@pytest.mark.parametrize(("limit", "runs"), [(300, 3), (None, 1)])
async def test_without_max_tokens_the_services_limit_or_1024_is_set_aside(
    tmp_path: Path, limit: int | None, runs: int
) -> None:
    keep(tmp_path, "a", budget(1200))
    limited = service(keys=True, limits={"maxOutputTokens": limit})
    async with (
        backends.running() as (engine,),
        routing(engine, services=[limited], keys=tmp_path) as router,
    ):
        engine.always = queued = Held()
        tasks = [asyncio.create_task(ask(router)) for _ in range(5)]
        await until(lambda: queued.waiting == runs and sum(t.done() for t in tasks) == 5 - runs)
        assert "max_tokens" not in engine.received[0].content
        queued.release.set()
        replies = await asyncio.gather(*tasks)
        assert [reply.status for reply in replies].count(200) == runs


async def test_more_than_the_services_limit_is_the_engines_400_and_costs_nothing(
    tmp_path: Path,
) -> None:
    keep(tmp_path, "a", budget(1000))
    limited = service(keys=True, limits={"maxOutputTokens": 100})
    async with (
        backends.running() as (engine,),
        routing(engine, services=[limited], keys=tmp_path) as router,
    ):
        engine.always = backends.status(400)
        assert (await ask(router, max_tokens=500)).status == 400
        assert engine.received[0].content["max_tokens"] == 500
        assert left(router) == 1000


@pytest.mark.parametrize("fault", [backends.status(500), backends.status(429), backends.die])
async def test_an_answer_that_failed_costs_nothing(
    tmp_path: Path, fault: backends.Behavior
) -> None:
    keep(tmp_path, "a", budget(60))
    async with (
        backends.running(3) as engines,
        routing(*engines, services=[LOCKED], keys=tmp_path) as router,
    ):
        for engine in engines:
            engine.always = fault
        assert (await ask(router, max_tokens=20)).status in (429, 500, 502)
        assert left(router) == 60


async def test_usage_is_asked_for_and_hidden_from_a_client_that_did_not(tmp_path: Path) -> None:
    keep(tmp_path, "a", budget(6000))
    async with (
        backends.running() as (engine,),
        routing(engine, services=[LOCKED], keys=tmp_path) as router,
    ):
        reply = await ask(router, stream=True, max_tokens=20, stream_options={"x": 1})
        sent = engine.received[0].content
        assert sent["stream_options"] == {"x": 1, "include_usage": True}
        assert len(reply.events) == 4
        assert reply.events[-1] == "[DONE]"
        assert b"usage" not in reply.body
        assert left(router) == pytest.approx(6000 - 10, abs=9)


async def test_a_client_that_asks_for_usage_gets_it(tmp_path: Path) -> None:
    keep(tmp_path, "a", budget(6000))
    async with (
        backends.running() as (engine,),
        routing(engine, services=[LOCKED], keys=tmp_path) as router,
    ):
        options = {"include_usage": True}
        reply = await ask(router, stream=True, max_tokens=20, stream_options=options)
        assert reply.events[-2]["usage"] == backends.USAGE


async def test_a_stream_without_usage_is_settled_by_its_events(tmp_path: Path) -> None:
    async def silent(peer: Peer, received: Received) -> None:
        await peer.stream()
        await peer.tokens(50)
        await peer.done()

    keep(tmp_path, "a", budget(600))
    async with (
        backends.running() as (engine,),
        routing(engine, services=[LOCKED], keys=tmp_path) as router,
    ):
        engine.always = silent
        reply = await ask(router, stream=True, max_tokens=300)
        prompt = len(engine.received[0].body) // 4
        assert reply.events[-1] == "[DONE]"
        assert left(router) == pytest.approx(600 - 50 - prompt, abs=25)


async def test_a_client_is_not_blamed_for_a_token_of_the_routers_that_engines_refuse() -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        engine.always = backends.status(401)
        reply = await router.ask()
        assert reply.status == 502
        assert "router's token" in reply.error["message"]
        assert len(engine.received) == 1


async def test_the_salt_and_the_priority_of_a_request_come_from_its_key_alone(
    tmp_path: Path,
) -> None:
    keep(tmp_path, "a", document(priority=10))
    keep(tmp_path, "b", "key-b\nother-key-b")
    own = {"cache_salt": "of-a", "priority": -(2**62)}
    async with (
        backends.running() as (engine,),
        routing(engine, services=[LOCKED], keys=tmp_path) as router,
    ):
        for key in (SECRET, SECRET, "key-b", "other-key-b"):
            assert (await ask(router, key, **own)).status == 200
        salts = [received.content["cache_salt"] for received in engine.received]
        assert salts[0] == salts[1] != salts[2] == salts[3] != "of-a"
        assert [received.content["priority"] for received in engine.received] == [-10, -10, 0, 0]


async def test_tenants_share_cached_prefixes_if_the_service_says_so(tmp_path: Path) -> None:
    keep(tmp_path, "a", document())
    keep(tmp_path, "b", "key-b")
    shared = service(keys=True, prefixScope="Service")
    long = "a shared prompt " * 200
    async with (
        backends.running(2) as engines,
        routing(*engines, services=[shared], keys=tmp_path) as router,
    ):
        for key in (SECRET, "key-b"):
            messages = [{"role": "user", "content": long}]
            assert (await ask(router, key, messages=messages)).status == 200
        received = [each for engine in engines for each in engine.received]
        assert all("cache_salt" not in each.content for each in received)
        assert {len(engine.received) for engine in engines} == {0, 2}
        assert (await ask(router, cache_salt="own")).status == 200
        salts = {each.content.get("cache_salt") for e in engines for each in e.received}
        assert salts == {None, "own"}


async def test_without_keys_no_client_has_a_priority() -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        assert (await router.ask(priority=-5)).status == 200
        assert (await router.ask()).status == 200
        assert engine.received[0].content["priority"] == 0
        assert not {"priority", "cache_salt"} & engine.received[1].content.keys()


async def test_a_key_document_with_aliases_or_without_end_opens_nothing(tmp_path: Path) -> None:
    levels = "".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]\n" for n in range(1, 12))
    keep(tmp_path, "aliases", f"sha256: x\nx0: &x0 [1]\n{levels}")
    keep(tmp_path, "long", "sha256: x\n" + "#" * 20_000)
    keep(tmp_path, "good", document())
    async with (
        backends.running() as (engine,),
        routing(engine, services=[LOCKED], keys=tmp_path) as router,
    ):
        assert (await ask(router)).status == 200
