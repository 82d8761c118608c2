"""Routes over several services: the service that answers, kept and discarded answers, and their tokens."""

import asyncio
import contextlib
import json
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from slipstream_runtime import contract
from tests.support import backends
from tests.support.backends import Backend, Behavior, Held, Peer, Received
from tests.support.routers import Reply, Running, routing, service, until

ESCALATIONS = "slipstream_router_route_escalations_total"
RESPONSES = "slipstream_router_responses_total"
CANCELLED = "slipstream_router_cancelled_requests_total"
HASH = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
KEY = {"authorization": "Bearer secret"}
SURE = {"minConfidence": 0.8}
SHORT = {"maxPromptTokens": 100}


def stage(name: str, **fields: Any) -> dict[str, Any]:
    """Return a service as a stage: `small` has the model `m-small` and the Lease `small-activation`."""
    revisions = [{"name": f"{name}-1", "weight": 100}]
    names = {"name": name, "model": f"m-{name}", "activation": f"{name}-activation"}
    return service(**names, revisions=revisions, **fields)


def cascade(*stages: tuple[str, dict[str, Any]], last: str = "large", **fields: Any) -> Any:
    found = [{"service": name, "accept": accept} for name, accept in stages]
    return {"name": "r", "model": "m", "stages": [*found, {"service": last}], **fields}


@contextlib.asynccontextmanager
async def cascading(
    small: Backend | None,
    large: Backend | None,
    *,
    accept: dict[str, Any] = SURE,
    keys: Path | None = None,
    limits: dict[str, Any] | None = None,
    share: float = 1.0,
    **fields: Any,
) -> AsyncIterator[Running]:
    """Run a router of the route `m` from `small` to `large`; None: the service has no engine."""
    common = {"keys": keys is not None, "limits": limits or {}, **fields}
    both = [stage("small", **common), stage("large", **common)]
    options = {} if keys is None else {"keys": keys}
    async with routing(services=both, **options) as router:
        router.configure(*both, routes=[cascade(("small", accept), maxEscalation=share)])
        found = {"small-1": small, "large-1": large}
        router.place({name: [each] for name, each in found.items() if each is not None})
        yield router


@pytest.fixture
async def small() -> AsyncIterator[Backend]:
    async with backends.running() as (engine,):
        engine.always = says("Small.", sure=0.9)
        yield engine


@pytest.fixture
async def large() -> AsyncIterator[Backend]:
    async with backends.running() as (engine,):
        yield engine


def says(
    words: str, *, sure: float | None, reason: str = "stop", output: int = 5, **message: Any
) -> Behavior:
    """Return a whole answer of the chat API; all tokens have the same probability."""
    tokens = [{"token": "x", "logprob": math.log(sure)}] * 3 if sure else None
    answer = {
        "id": "1",
        "object": "chat.completion",
        "model": "m-small",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": words, **message},
                "finish_reason": reason,
                "logprobs": {"content": tokens} if tokens else None,
            }
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": output, "total_tokens": 7 + output},
    }

    async def behave(peer: Peer, received: Received) -> None:
        await peer.whole(answer)

    return behave


async def no_answer(peer: Peer, received: Received) -> None:
    await peer.whole({"choices": ["what is that?"]})


async def fails_in_a_stream(peer: Peer, received: Received) -> None:
    await peer.head(500, content_type="text/event-stream", transfer_encoding="chunked")
    await peer.event({"error": {"message": "no"}})
    await peer.done()


def keep(folder: Path, service: str, **fields: Any) -> None:
    """Return an API key of the service."""
    (folder / service).mkdir(exist_ok=True)
    (folder / service / "team").write_text(json.dumps({"sha256": HASH, "tenant": "a", **fields}))


def route(router: Running) -> Any:
    return router.router.table.route("m")


async def escalated(router: Running, reason: str, **labels: str) -> float:
    return await router.metric(ESCALATIONS, route="r", reason=reason, **labels)


async def counted(router: Running, name: str) -> tuple[float, float, float]:
    """Return the answers, and the output tokens that were kept and discarded."""
    labels = {"route": "r", "service": name}
    return (
        await router.metric(contract.ROUTE_ANSWERS, **labels),
        await router.metric(contract.ROUTE_TOKENS, outcome="kept", **labels),
        await router.metric(contract.ROUTE_TOKENS, outcome="discarded", **labels),
    )


def text(reply: Reply) -> str:
    """Return the text of a whole answer."""
    found: str = reply.content["choices"][0]["message"]["content"]
    return found


def said(reply: Reply) -> str:
    """Return the text of a stream's events."""
    chunks = [event for event in reply.events if event != "[DONE]"]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    return "".join(delta.get("content", "") for delta in deltas)


async def test_an_answer_that_is_sure_enough_ends_at_the_small_model(
    small: Backend, large: Backend
) -> None:
    async with cascading(small, large) as router:
        reply = await router.ask(seed=1)
        [choice] = reply.content["choices"]
        assert choice["message"]["content"] == "Small."
        assert choice["logprobs"] is None
        sent = small.received[0].content
        assert (sent["model"], sent["seed"], sent["logprobs"]) == ("m-small", 1, True)
        assert large.received == []
        assert await counted(router, "small") == (1, 5, 0)
        assert await counted(router, "large") == (0, 0, 0)


async def test_a_stream_gets_what_the_small_model_said_as_a_stream(
    small: Backend, large: Backend
) -> None:
    async with cascading(small, large) as router:
        reply = await router.ask(stream=True, stream_options={"include_usage": True})
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert said(reply) == "Small."
        assert reply.events[-2]["usage"]["completion_tokens"] == 5
        assert reply.events[-1] == "[DONE]"
        assert not {"stream", "stream_options"} & small.received[0].content.keys()
        assert b"usage" not in (await router.ask(stream=True)).body


async def test_a_client_that_asked_for_probabilities_gets_them(
    small: Backend, large: Backend
) -> None:
    async with cascading(small, large) as router:
        reply = await router.ask(logprobs=True)
        assert len(reply.content["choices"][0]["logprobs"]["content"]) == 3


DISCARDED: dict[str, Behavior] = {
    "unsure": says("Small?", sure=0.7),
    "confidence_unknown": says("Small.", sure=None),
    "cut_off": says("Smal", sure=0.9, reason="length"),
    "refusal": says("I'm sorry, but I can't help with that.", sure=0.9),
    "invalid_json": says('{"size": ', sure=0.9),
}
UNANSWERED: dict[str, Behavior] = {
    "500": backends.status(500),
    "503": backends.status(503),
    "429": backends.status(429),
    "dead": backends.die,
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("reason", DISCARDED)
async def test_the_large_model_answers_where_the_small_ones_answer_does_not_stand(
    small: Backend, large: Backend, reason: str, stream: bool
) -> None:
    small.always = DISCARDED[reason]
    form = {"response_format": {"type": "json_object"}} if reason == "invalid_json" else {}
    async with cascading(small, large) as router:
        reply = await router.ask(stream=stream, **form)
        assert reply.status == 200
        assert (said(reply) if stream else text(reply)).strip() == "0 1 2"
        sent = large.received[0].content
        assert (sent["model"], sent["stream"], "logprobs" in sent) == ("m-large", stream, False)
        assert await escalated(router, reason, **{"from": "small", "to": "large"}) == 1
        assert await counted(router, "small") == (0, 0, 5)
        assert await counted(router, "large") == (1, 3, 0)
        if stream:
            assert sent["stream_options"] == {"include_usage": True}
            assert b"usage" not in reply.body


@pytest.mark.parametrize("accept", [SURE, SHORT], ids=["judging", "ruling"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", UNANSWERED)
async def test_the_large_model_answers_where_the_small_one_does_not(
    small: Backend, large: Backend, fault: str, stream: bool, accept: dict[str, Any]
) -> None:
    small.always = UNANSWERED[fault]
    async with cascading(small, large, accept=accept, share=0) as router:
        reply = await router.ask(stream=stream)
        assert (reply.status, len(large.received)) == (200, 1)
        assert await escalated(router, "error") == 1
        assert await counted(router, "small") == (0, 0, 0)


async def test_what_is_no_answer_does_not_stand(small: Backend, large: Backend) -> None:
    small.always = no_answer
    async with cascading(small, large) as router:
        assert (await router.ask(stream=True)).status == 200
        assert await escalated(router, "error") == 1


async def test_an_answer_that_is_too_long_to_be_held_is_given_up(
    small: Backend, large: Backend
) -> None:
    size, sent = 64 * 1024 * 1024, 0

    async def endless(peer: Peer, received: Received) -> None:
        nonlocal sent
        await peer.head(content_length=str(size))
        while sent < size:
            await peer.write(b"x" * 65_536)
            sent += 65_536

    small.always = endless
    async with cascading(small, large) as router:
        assert text(await router.ask()) == "0 1 2"
        assert sent < size / 2


@pytest.mark.parametrize("accept", [SURE, SHORT], ids=["judging", "ruling"])
async def test_what_the_small_model_can_not_take_the_large_one_gets(
    small: Backend, large: Backend, accept: dict[str, Any]
) -> None:
    small.always = backends.status(400)
    async with cascading(small, large, accept=accept) as router:
        assert (await router.ask()).status == 200
        large.always = backends.status(400)
        assert (await router.ask()).status == 400
        assert await escalated(router, "rejected") == 2
        assert await counted(router, "large") == (1, 3, 0)


async def test_a_small_model_that_is_down_delays_nobody_and_is_woken(large: Backend) -> None:
    async with cascading(None, large) as router:
        async with asyncio.timeout(60):  # far below the 300 s that a request is held
            assert (await router.ask()).status == 200
        await until(lambda: router.renewed == ["small-activation"])
        assert await escalated(router, "error") == 1


async def test_engines_that_fail_are_not_waited_for(small: Backend, large: Backend) -> None:
    small.always = backends.die
    async with cascading(small, large) as router:
        replies = [await router.ask() for _ in range(5)]
        assert {reply.status for reply in replies} == {200}
        assert [len(small.received), len(large.received)] == [3, 5]
        assert await router.metric("slipstream_router_retries_total", service="small") == 0


async def test_another_engine_of_the_small_model_is_tried_first(
    small: Backend, large: Backend
) -> None:
    async with backends.running() as (dead,), cascading(small, large) as router:
        dead.always = backends.die
        router.place({"small-1": [dead, small], "large-1": [large]})
        replies = [await router.ask() for _ in range(4)]
        assert {text(r) for r in replies} == {"Small."}
        assert large.received == []


async def test_a_small_model_that_is_busy_is_not_waited_for_long(
    small: Backend, large: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipstream_runtime.router.service.FALLBACK_WAIT_SECONDS", 0.02)
    small.always = held = Held(then=small.always)
    async with cascading(small, large, limits={"concurrency": 1}) as router:
        first = asyncio.create_task(router.ask())
        await until(lambda: held.waiting == 1)
        async with asyncio.timeout(60):  # the first request is never answered before
            assert (await router.ask()).status == 200
        assert len(large.received) == 1
        held.release.set()
        assert text(await first) == "Small."


@pytest.mark.parametrize("stream", [False, True])
async def test_if_all_fail_the_client_gets_one_error(
    small: Backend, large: Backend, stream: bool
) -> None:
    small.always, large.always = backends.die, backends.status(500)
    async with cascading(small, large) as router:
        reply = await router.ask(stream=stream)
        assert (reply.status, reply.content["error"]) == (500, {"message": "no"})
        assert await router.metric(contract.ROUTE_ANSWERS) == 0
        assert await router.metric(RESPONSES) == 1


@pytest.mark.parametrize(
    "fault", [backends.status(500), backends.status(503), backends.die, fails_in_a_stream]
)
async def test_an_answer_that_is_there_stands_where_the_large_model_fails(
    small: Backend, large: Backend, fault: Behavior
) -> None:
    small.always, large.always = says("Small?", sure=0.1), fault
    async with cascading(small, large) as router:
        _, service = route(router).services
        while service.retries.spend():
            pass
        reply = await router.ask(stream=True)
        assert (reply.status, said(reply)) == (200, "Small?")
        assert await escalated(router, "unsure") == 1
        assert await counted(router, "small") == (1, 5, 0)
        assert await counted(router, "large") == (0, 0, 0)
        assert await router.metric(RESPONSES, service="small") == 1
        assert await router.metric(RESPONSES, service="large") == 0


async def test_nothing_escalates_after_the_first_byte(small: Backend, large: Backend) -> None:
    async def breaks_off(peer: Peer, received: Received) -> None:
        await peer.stream()
        await peer.tokens(2)
        peer.reset()

    small.always = breaks_off
    async with cascading(small, large, accept=SHORT) as router:
        reply = await router.ask(stream=True)
        assert reply.events[-1]["error"]["code"] == 502
        assert large.received == []
        assert await counted(router, "small") == (0, 0, 0)


async def test_a_stage_that_only_has_rules_streams_at_once(small: Backend, large: Backend) -> None:
    small.always = held = Held(begun=2)
    async with cascading(small, large, accept=SHORT) as router:
        asking = asyncio.create_task(router.ask(stream=True))
        await until(lambda: held.waiting == 1)
        assert small.received[0].streams
        assert "logprobs" not in small.received[0].content
        held.release.set()
        assert said(await asking) == "0 1 "
        long = await router.ask(user="x" * 1000)
        assert (long.status, len(large.received)) == (200, 1)
        assert await escalated(router, "prompt_too_long") == 1


async def test_what_is_no_text_is_for_the_last_stage_alone(small: Backend, large: Backend) -> None:
    async with cascading(small, large) as router:
        assert (await router.ask("/v1/embeddings", input="x")).status == 200
        assert [len(small.received), len(large.received)] == [0, 1]
        assert await router.metric(ESCALATIONS) == 0


async def test_no_more_than_the_allowed_share_is_answered_twice(
    small: Backend, large: Backend
) -> None:
    small.always = says("Small?", sure=0.1)
    async with cascading(small, large, share=0.25) as router:
        replies = [await router.ask() for _ in range(8)]
        assert {reply.status for reply in replies} == {200}
        assert len(large.received) == 2
        assert await counted(router, "small") == (6, 30, 10)


async def test_three_stages_go_from_the_first_to_the_last(small: Backend, large: Backend) -> None:
    async with backends.running() as (middle,), routing() as router:
        small.always, middle.always = says("?", sure=0.1), says("??", sure=0.1, output=9)
        named = [stage(name) for name in ("small", "middle", "large")]
        router.configure(*named, routes=[cascade(("small", SURE), ("middle", SURE))])
        router.place({"small-1": [small], "middle-1": [middle], "large-1": [large]})
        assert text(await router.ask()) == "0 1 2"
        assert await escalated(router, "unsure", **{"from": "middle", "to": "large"}) == 1
        assert await counted(router, "middle") == (0, 0, 9)
        large.always = backends.status(500)
        assert text(await router.ask()) == "??"
        assert await counted(router, "small") == (0, 0, 10)
        assert await counted(router, "middle") == (1, 9, 9)


async def test_a_route_goes_on_without_a_service_that_is_gone(
    small: Backend, large: Backend
) -> None:
    async with cascading(small, large) as router:
        router.configure(stage("large"), routes=[cascade(("small", SURE))])
        assert (await router.ask()).status == 200
        router.configure(stage("small"), routes=[cascade(("small", SURE))])
        small.always = says("Small?", sure=0.1)
        assert text(await router.ask()) == "Small?"
        router.configure(stage("small"))
        assert (await router.ask()).status == 404
        assert await router.metric(contract.ROUTE_ANSWERS) == 0


async def test_a_change_of_the_rules_keeps_the_account(small: Backend, large: Backend) -> None:
    async with cascading(small, large) as router:
        await router.ask()
        changed = cascade(("small", {"minConfidence": 0.95}))
        router.configure(stage("small"), stage("large"), routes=[changed])
        await router.ask()
        url = f"http://127.0.0.1:{router.management}{contract.STATUS_PATH}"
        async with router.http.get(url) as response:
            status = (await response.json())["routes"]["r"]
        assert status == {
            "requests": 2,
            "escalated": 1,
            "services": [{"name": "small", "share": 0.5}, {"name": "large", "share": 0.5}],
            "savedTokens": 5,
            "discardedTokens": 5,
        }


async def test_a_weighted_route_counts_its_answers(small: Backend, large: Backend) -> None:
    draws = iter([0.0, 0.4, 0.6])
    shares = [{"service": name, "weight": 1} for name in ("small", "large")]
    async with routing(chance=lambda: next(draws)) as router:
        split = {"name": "r", "model": "m", "backends": shares}
        router.configure(stage("small"), stage("large"), routes=[split])
        router.place({"small-1": [small], "large-1": [large]})
        await router.ask()
        await router.ask()
        assert b"usage" not in (await router.ask(stream=True)).body
        assert await counted(router, "small") == (2, 10, 0)
        assert await counted(router, "large") == (1, 3, 0)


async def test_what_the_response_cache_holds_costs_nothing(small: Backend, large: Backend) -> None:
    small.always, large.always = says("Small?", sure=0.1), says("Large.", sure=None, output=3)
    async with cascading(small, large, responses={"ttl": 60, "size": 100_000}) as router:
        for _ in range(2):
            assert (await router.ask(temperature=0)).status == 200
        assert [len(small.received), len(large.received)] == [1, 1]
        assert await counted(router, "small") == (0, 0, 5)
        assert await counted(router, "large") == (2, 3, 0)


def left(router: Running, position: int) -> float:
    level: float = route(router).services[position]._budgets["a"].level(router.router._clock())
    return level


async def test_a_key_must_open_every_service_of_the_route(
    small: Backend, large: Backend, tmp_path: Path
) -> None:
    keep(tmp_path, "small")
    async with cascading(small, large, keys=tmp_path) as router:
        assert (await router.ask(headers=KEY)).status == 401
        assert [m["id"] for m in (await router.get("/v1/models", **KEY)).content["data"]] == [
            "m-small"
        ]
        assert not any(each.method == "POST" for each in small.received)


async def test_a_key_need_not_open_what_gets_no_requests(small: Backend, tmp_path: Path) -> None:
    keep(tmp_path, "small")
    shares = [{"service": "small", "weight": 1}, {"service": "large", "weight": 0}]
    async with cascading(small, None, keys=tmp_path) as router:
        named = [stage(name, keys=True) for name in ("small", "large")]
        router.configure(*named, routes=[{"name": "r", "model": "m", "backends": shares}])
        assert (await router.ask(headers=KEY)).status == 200


async def test_a_key_that_is_not_for_a_stages_model_is_403(
    small: Backend, large: Backend, tmp_path: Path
) -> None:
    keep(tmp_path, "small")
    keep(tmp_path, "large", models=["another"])
    async with cascading(small, large, keys=tmp_path) as router:
        assert (await router.ask(headers=KEY)).status == 403
        assert small.received == []


async def test_each_stage_settles_what_it_spent(
    small: Backend, large: Backend, tmp_path: Path
) -> None:
    for name in ("small", "large"):
        keep(tmp_path, name, tokensPerMinute=1000)
    small.always = says("?", sure=0.1, output=100)
    async with cascading(small, large, keys=tmp_path) as router:
        reply = await router.ask(headers=KEY, stream=True, max_tokens=500)
        assert said(reply) == "0 1 2 "
        assert left(router, 0) == pytest.approx(1000 - 107, abs=20)
        assert left(router, 1) == pytest.approx(1000 - 10, abs=9)


async def test_a_budget_that_is_used_up_is_no_reason_to_ask_the_large_model(
    small: Backend, large: Backend, tmp_path: Path
) -> None:
    keep(tmp_path, "small", tokensPerMinute=100)
    keep(tmp_path, "large")
    async with cascading(small, large, keys=tmp_path) as router:
        assert (await router.ask(headers=KEY, max_tokens=500)).status == 429
        assert large.received == []


@pytest.mark.parametrize("at", ["small", "large"])
async def test_a_client_that_leaves_ends_the_stage_that_works_for_it(
    small: Backend, large: Backend, at: str
) -> None:
    held = Held()
    if at == "small":
        small.always = held
    else:
        small.always, large.always = says("?", sure=0.1), held
    async with cascading(small, large) as router:
        asking = asyncio.create_task(router.ask(stream=True))
        await until(lambda: held.waiting == 1)
        asking.cancel()
        await until(lambda: held.abandoned == 1)
        await until(router.settled)
        assert await router.metric(CANCELLED, service=at, phase="answering") == 1
        assert await counted(router, "small") == (0, 0, 0 if at == "small" else 5)
        assert await router.metric(contract.ROUTE_ANSWERS) == 0


async def test_a_router_that_ends_tells_the_client_and_asks_no_further_stage(
    small: Backend, large: Backend
) -> None:
    small.always = held = Held()
    async with cascading(small, large) as router:
        asking = asyncio.create_task(router.ask())
        await until(lambda: held.waiting == 1)
        assert router.router.front.in_flight == 1
        router.router.front.abort()
        reply = await asking
        assert (reply.status, large.received) == (503, [])


async def test_a_router_that_drains_waits_for_all_stages(small: Backend, large: Backend) -> None:
    small.always = first = Held(then=says("?", sure=0.1))
    large.always = second = Held()
    async with cascading(small, large) as router:
        asking = asyncio.create_task(router.ask())
        await until(lambda: first.waiting == 1)
        emptied = asyncio.create_task(router.router.front.emptied(within=10))
        await asyncio.sleep(0)
        first.release.set()
        await until(lambda: second.waiting == 1)
        assert not emptied.done()
        second.release.set()
        assert (await asking).status == 200
        assert await emptied
