"""Answers of the small model that a route accepts, or replaces by those of the large model."""

from typing import Any

import pytest

from tests.support import backends
from tests.support.backends import Backend, Behavior, Peer, Received
from tests.support.cascades import SHORT, SURE, cascading, counted, escalated, said, says, text


async def no_answer(peer: Peer, received: Received) -> None:
    await peer.whole({"choices": ["what is that?"]})


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
