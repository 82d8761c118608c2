"""Answers of an endpoint that are none: they end the run, and never count as right."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from slipstream_runtime.errors import EngineError, UnsuitableError
from slipstream_runtime.evaluate.quality.config import Model
from slipstream_runtime.evaluate.quality.endpoint import Endpoint
from slipstream_runtime.evaluate.quality.observations import Kind, Observation, Request
from tests.support import backends
from tests.support.backends import Backend, Behavior, Peer, Received, status
from tests.support.routers import until

QUESTION = Request(Kind.ANSWER, messages=({"role": "user", "content": "?"},), max_tokens=5)
COMPARED = Request(Kind.ANSWER, messages=({"role": "user", "content": "?"},), max_tokens=5, top=2)
CHOICE = Request(Kind.CHOICES, prompt="one two ", continuations=("a", "b"))


@pytest.fixture
async def server() -> AsyncIterator[Backend]:
    async with backends.running() as (found,):
        yield found


async def ask(server: Backend, request: Request, **more: Any) -> Observation:
    model = Model(url=f"http://127.0.0.1:{server.port}", model="m", **more)
    endpoint = Endpoint(model, concurrency=1, timeout=5.0)
    [(_, found)] = [pair async for pair in endpoint.ask([request])]
    return found


def says(content: Any) -> Behavior:
    async def behave(peer: Peer, received: Received) -> None:
        await peer.whole(content)

    return behave


def chat(text: str | None = "hi", finish: str = "stop", **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish, **more}]}


GARBAGE: list[Any] = [{}, [], "text", None, {"choices": []}, {"choices": [{}]}, {"choices": None}]


@pytest.mark.parametrize("content", GARBAGE)
async def test_an_answer_of_another_form_ends_the_run(server: Backend, content: Any) -> None:
    server.always = says(content)
    with pytest.raises(EngineError, match="the answer has another form than OpenAI's"):
        await ask(server, QUESTION)


async def test_an_answer_that_is_no_json_ends_the_run(server: Backend) -> None:
    async def page(peer: Peer, received: Received) -> None:
        await peer.head(content_length="6", content_type="text/html")
        await peer.write(b"<html>")

    server.always = page
    with pytest.raises(EngineError, match="the answer has another form"):
        await ask(server, QUESTION)


@pytest.mark.parametrize("finish", ["abort", "error"])
async def test_an_answer_that_the_engine_broke_off_ends_the_run(
    server: Backend, finish: str
) -> None:
    server.always = says(chat("4", finish))
    with pytest.raises(EngineError, match="an answer broke off"):
        await ask(server, QUESTION)


@pytest.mark.parametrize("logprobs", [None, {"content": None}, {"content": []}])
async def test_a_server_without_log_probabilities_can_not_be_compared_by_tokens(
    server: Backend, logprobs: Any
) -> None:
    server.always = says(chat("4", logprobs=logprobs))
    with pytest.raises(UnsuitableError, match="no log-probabilities"):
        await ask(server, COMPARED)
    assert (await ask(server, QUESTION)).text == "4"


@pytest.mark.parametrize("code", [400, 413, 422])
async def test_a_refusal_is_an_observation(server: Backend, code: int) -> None:
    server.always = status(code)
    assert (await ask(server, QUESTION)).error is not None


@pytest.mark.parametrize("code", [401, 403, 404, 405])
async def test_a_wrong_key_model_or_address_is_a_wrong_configuration(
    server: Backend, code: int
) -> None:
    server.always = status(code)
    with pytest.raises(UnsuitableError):
        await ask(server, QUESTION)


async def test_half_of_a_surrogate_pair_is_replaced(server: Backend) -> None:
    server.always = says(chat("ok \ud83d \ud83d\ude00"))
    assert (await ask(server, QUESTION)).text == "ok \ufffd \U0001f600"


def words(values: list[Any], top: list[Any] | None = None) -> Behavior:
    """Tokenize by words, and echo these log-probabilities."""

    async def behave(peer: Peer, received: Received) -> None:
        if received.path == "/tokenize":
            tokens = [len(word) for word in received.content["prompt"].split()]
            await peer.whole({"tokens": tokens, "count": len(tokens), "max_model_len": 99})
            return
        best = [{"x": value} for value in values] if top is None else top
        found = {"token_logprobs": values, "top_logprobs": best, "tokens": [], "text_offset": []}
        choice = {"index": 0, "text": "", "finish_reason": "length", "logprobs": found}
        await peer.whole({"choices": [choice]})

    return behave


async def test_the_spaces_before_a_choice_belong_to_it(server: Backend) -> None:
    server.always = words([None, -2.0, -3.0, -9.0])
    found = await ask(server, CHOICE)
    assert found.likelihoods == ((-3.0, 1, True), (-3.0, 1, True))
    texts = [r.content["prompt"] for r in server.received if r.path == "/tokenize"]
    assert texts == ["one two", "one two a", "one two", "one two b"]


@pytest.mark.parametrize(
    "values",
    [[None, -2.0, None, -9.0], [None, -2.0], [None, -2.0, "x", -9.0], [None, -2.0, float("nan")]],
)
async def test_a_likelihood_that_is_missing_is_not_one_of_certainty(
    server: Backend, values: list[Any]
) -> None:
    server.always = words(values)
    with pytest.raises(EngineError, match="another form"):
        await ask(server, CHOICE)


async def test_a_likelihood_without_its_rivals_is_not_the_likeliest(server: Backend) -> None:
    server.always = words([None, -2.0, -3.0, -9.0], top=[])
    with pytest.raises(EngineError, match="another form"):
        await ask(server, CHOICE)


@pytest.mark.parametrize("key", ["sk-one\nsk-two", "sk-schlüssel", "sk-\x00", "", " \n"])
async def test_a_key_that_no_header_carries_is_refused_and_not_shown(
    server: Backend, tmp_path: Path, key: str
) -> None:
    file = tmp_path / "key"
    file.write_text(key)
    with pytest.raises(UnsuitableError, match="keyFile") as found:
        await ask(server, QUESTION, key_file=file)
    assert "sk-" not in str(found.value)


async def test_no_more_requests_are_in_flight_than_allowed(server: Backend) -> None:
    held = backends.Held(then=says(chat()))
    server.always = held
    model = Model(url=f"http://127.0.0.1:{server.port}/v1", model="m")
    endpoint = Endpoint(model, concurrency=3, timeout=60.0)
    asked = [
        Request(Kind.ANSWER, messages=({"role": "user", "content": str(n)},), max_tokens=1)
        for n in range(10)
    ]

    async def collect() -> int:
        return len([pair async for pair in endpoint.ask(asked)])

    collecting = asyncio.create_task(collect())
    await until(lambda: held.waiting == 3)
    held.release.set()
    assert await collecting == 10
    assert held.most == 3
