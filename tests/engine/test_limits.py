"""Limits, forms of answers and API keys with a real vLLM: one engine process for all tests, the fuzz last."""

import asyncio
import collections
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import psutil
import pytest

from dev import waiting
from slipstream_runtime import contract
from tests.support.engines import NAME, Engine, config, serving, write_model
from tests.support.malformed import Malformed
from tests.support.processes import HANG_SECONDS

KEY = "a-key-of-the-team"
URGENT = "a-key-of-others"
BEARER = {"authorization": f"Bearer {KEY}"}
CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "colour": {"enum": ["red", "green", "blue"]},
        "count": {"type": "integer", "minimum": 1, "maximum": 9},
    },
    "required": ["colour", "count"],
    "additionalProperties": False,
}
LIMITS = {
    "maxOutputTokens": 16000,
    "maxPromptTokens": 300,
    "timeoutSeconds": 4,
    "concurrency": 2,
    "queue": 3,
}
FREE = {"response_format": {"type": "text"}, "ignore_eos": True}
"""An answer without form and with a known length."""


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    (folder / "team").write_text(f"{KEY}\nanother-key\n")
    digest = hashlib.sha256(URGENT.encode()).hexdigest()
    (folder / "urgent").write_text(json.dumps({"sha256": digest, "priority": 10}))
    return folder


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[Engine]:
    model = tmp_path_factory.mktemp("model")
    write_model(model, positions=4096)
    parts = {
        "limits": LIMITS,
        "output": {"schema": json.dumps(SCHEMA)},
        "apiKeys": str(keys),
        "prefixScope": "Tenant",
    }
    with serving(tmp_path_factory.mktemp("engine"), config(f"file://{model}", **parts)) as engine:
        yield engine


def post(engine: Engine, path: str, **body: Any) -> httpx.Response:
    return httpx.post(engine.api + path, json={"model": NAME, **body}, headers=BEARER, timeout=60)


def chat(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


def error(answer: httpx.Response) -> dict[str, Any]:
    content: dict[str, Any] = answer.json()["error"]
    assert content["code"] == answer.status_code
    assert set(content) == {"message", "type", "param", "code"}
    return content


def test_answers_have_the_form_of_the_service_on_every_route(engine: Engine) -> None:
    for seed in range(5):
        sampled = {"temperature": 1, "seed": seed}
        answer = post(engine, CHAT, **chat("hi"), **sampled).json()
        jsonschema.validate(json.loads(answer["choices"][0]["message"]["content"]), SCHEMA)
        answer = post(engine, COMPLETIONS, prompt="hi", max_tokens=100, **sampled).json()
        jsonschema.validate(json.loads(answer["choices"][0]["text"]), SCHEMA)
    answer = post(engine, RESPONSES, input="hi").json()
    jsonschema.validate(json.loads(answer["output"][0]["content"][0]["text"]), SCHEMA)


def test_a_request_with_a_form_of_its_own_gets_that(engine: Engine) -> None:
    answer = post(engine, COMPLETIONS, prompt="hi", structured_outputs={"regex": "yes|no"})
    assert answer.json()["choices"][0]["text"] in ("yes", "no")


@pytest.mark.parametrize("stream", [False, True])
def test_prompts_are_counted_in_tokens_before_a_response_begins(
    engine: Engine, stream: bool
) -> None:
    # One token a byte, and the line feed of the chat template.
    for path, fits, longer in [
        (COMPLETIONS, {"prompt": "x" * 300}, {"prompt": "x" * 301}),
        (COMPLETIONS, {"prompt": [5] * 300}, {"prompt": ["x", "y" * 301]}),
        (CHAT, chat("x" * 299), chat("x" * 300)),
        (CHAT, chat("x"), chat("x" * 100_000)),
        (RESPONSES, {"input": "x" * 299}, {"input": "x" * 300}),
    ]:
        assert post(engine, path, stream=stream, **fits).status_code == 200
        answer = post(engine, path, stream=stream, **longer)
        assert answer.status_code == 413
        assert "and this service allows 300 (" in error(answer)["message"]


def test_output_tokens_past_the_limit_are_told_in_numbers(engine: Engine) -> None:
    answer = post(engine, CHAT, **chat("hi"), max_tokens=4000, n=5, stream=True)
    assert answer.status_code == 400
    assert "5 times 4000 output tokens, more than the 16000" in error(answer)["message"]


async def burst(engine: Engine, count: int) -> list[tuple[int, httpx.Headers, str]]:
    async with httpx.AsyncClient(timeout=60, headers=BEARER) as client:
        body = {"model": NAME, **chat("hi"), **FREE, "max_tokens": 24, "stream": True}

        async def one() -> tuple[int, httpx.Headers, str]:
            answer = await client.post(engine.api + CHAT, json=body)
            return answer.status_code, answer.headers, answer.text

        return await asyncio.gather(*(one() for _ in range(count)))


async def test_a_burst_of_streams_gets_tokens_or_429_and_never_200_with_an_error(
    engine: Engine,
) -> None:
    before = engine.metrics()[contract.REFUSED]
    answers = await burst(engine, 12)
    refused = [headers for status, headers, _ in answers if status == 429]
    served = [text for status, _, text in answers if status == 200]
    assert len(refused) + len(served) == 12
    assert len(served) >= LIMITS["concurrency"] + LIMITS["queue"]
    assert refused
    assert all(headers["retry-after"] == "1" for headers in refused)
    for text in served:
        events = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
        assert events[-1] == "[DONE]"
        assert json.loads(events[-2])["choices"][0]["finish_reason"] == "length"
        assert "error" not in text
    found = engine.metrics()
    assert found[contract.REFUSED] == before + len(refused)
    assert found[contract.QUEUED] == found[contract.IN_FLIGHT] == 0


def idle(engine: Engine) -> bool:
    found = engine.metrics()
    return found[contract.RUNNING] + found[contract.WAITING] + found[contract.IN_FLIGHT] == 0


def test_a_request_that_takes_too_long_is_ended_here_and_in_the_engine(engine: Engine) -> None:
    long = {**chat("hi"), **FREE, "max_tokens": 4000, "n": 4}
    answer = post(engine, CHAT, **long)
    assert answer.status_code == 504
    assert error(answer)["message"] == "The answer was not complete within 4 s."
    streamed = post(engine, CHAT, stream=True, **long)
    assert streamed.status_code == 200
    *tokens, last = [line for line in streamed.text.split("\n\n") if line]
    assert tokens
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == 504
    waiting.until(lambda: idle(engine), seconds=HANG_SECONDS, what="the engine being idle")


def test_what_vllm_itself_refuses_has_the_same_form(engine: Engine) -> None:
    for answer in (
        post(engine, "/v1/embeddings", input="a"),
        post(engine, CHAT, messages=1),
        post(engine, CHAT, **chat("hi"), temperature=-1),
        post(engine, CHAT, **chat("hi"), structured_outputs={"json": {"type": "nonsense"}}),
        post(engine, COMPLETIONS, prompt="hi", model="another"),
        httpx.options(engine.api + CHAT),
    ):
        assert 400 <= answer.status_code < 500
        error(answer)


LOOP = {"$ref": "#/a", "a": {"$ref": "#/a"}}


@pytest.mark.parametrize(
    "structure",
    [
        {"json": {"$ref": "#"}},
        {"json": LOOP},
        {"regex": r"\p{L}+"},
        {"regex": "("},
        {"grammar": "root ::= root"},
        {"grammar": "root ::= nowhere"},
        {"choice": ["a" * 9] * 50_000},
        {"json": {"properties": {str(one): {} for one in range(20_000)}}},
    ],
    ids=["itself", "a loop", "a class", "unclosed", "no end", "no rule", "choices", "properties"],
)
def test_a_structure_that_can_not_be_made_is_the_clients_fault(
    engine: Engine, structure: dict[str, Any]
) -> None:
    answer = post(engine, COMPLETIONS, prompt="hi", structured_outputs=structure)
    assert answer.status_code == 400
    assert error(answer)["param"] == "structured_outputs"
    good = post(engine, COMPLETIONS, prompt="hi", structured_outputs={"regex": "yes|no"})
    assert good.json()["choices"][0]["text"] in ("yes", "no")


def test_a_long_text_is_refused_before_it_takes_memory(engine: Engine) -> None:
    process = psutil.Process(engine.process.pid)
    before = process.memory_info().rss
    answer = post(engine, COMPLETIONS, prompt="a " * 7_000_000, truncate_prompt_tokens=10)
    assert answer.status_code == 413
    assert process.memory_info().rss - before < 256 * 2**20


@pytest.mark.parametrize("key", [KEY, URGENT])
@pytest.mark.parametrize("own", [{}, {"priority": -(2**62)}])
def test_vllm_takes_the_priority_of_a_key_without_its_policy_and_orders_by_arrival(
    engine: Engine, key: str, own: dict[str, int]
) -> None:
    body = {"model": NAME, **chat("hi"), **FREE, "max_tokens": 2, **own}
    headers = {"authorization": f"Bearer {key}"}
    answer = httpx.post(engine.api + CHAT, json=body, headers=headers, timeout=60)
    assert answer.status_code == 200


def test_a_client_that_offers_h2c_is_answered(engine: Engine) -> None:
    offer = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": "AAMAAAB"}
    answer = httpx.post(
        engine.api + COMPLETIONS,
        json={"model": NAME, "prompt": "hi", "structured_outputs": {"regex": "yes|no"}},
        headers={**BEARER, **offer},
        timeout=60,
    )
    assert answer.json()["choices"][0]["text"] in ("yes", "no")


def test_keys_are_needed_and_change_without_a_restart(engine: Engine, keys: Path) -> None:
    def asked(key: str | None, path: str = "/v1/models") -> int:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        return httpx.get(engine.api + path, headers=headers).status_code

    def becomes(status: int, key: str) -> None:
        what = f"status {status} for this key"
        waiting.until(lambda: asked(key) == status, seconds=HANG_SECONDS, what=what, interval=0.1)

    assert asked(None) == asked("wrong") == 401
    assert asked(KEY) == asked("another-key") == 200
    assert asked(None, "/health") == 200
    for path in (CHAT, COMPLETIONS, RESPONSES):
        refused = httpx.post(engine.api + path, json={"model": NAME, "prompt": "hi"})
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"
        assert error(refused)["type"] == "AuthenticationError"
    (keys / "guest").write_text("a-new-key")
    becomes(200, "a-new-key")
    (keys / "guest").unlink()
    becomes(401, "a-new-key")
    assert KEY not in engine.log.read_text()
    assert KEY not in Path(f"/proc/{engine.process.pid}/cmdline").read_text()


async def answered(port: int, request: bytes, *, leaves: bool) -> bytes:
    """All that the server says to this request, before the client leaves if it does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        if leaves:
            writer.write_eof()
        return await asyncio.wait_for(reader.read(), timeout=HANG_SECONDS)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_ten_thousand_malformed_requests_leave_the_engine_as_it_was(engine: Engine) -> None:
    port = engine.port("api")
    before = engine.process.pid, engine.events("phase")
    waiting = Malformed(model=NAME, key=KEY, seed=1).requests(10_000)
    statuses: collections.Counter[str] = collections.Counter()

    async def work() -> None:
        for request, leaves in waiting:
            head, _, body = (await answered(port, request, leaves=leaves)).partition(b"\r\n\r\n")
            status = head[9:12].decode()
            statuses[status] += 1
            assert status or leaves, request[:2000]
            assert status != "500", (request[:2000], body)
            if status.startswith(("4", "5")) and not request.startswith(b"HEAD"):
                error = json.loads(body).get("error", {})
                assert error.get("code") == int(status), (request[:2000], body)

    await asyncio.gather(*(work() for _ in range(4)))
    assert statuses.total() == 10_000
    assert statuses["400"] > 5000
    assert {"401", "404", "405", "413", "415"} <= statuses.keys()
    answer = post(engine, CHAT, **chat("hi"))
    jsonschema.validate(json.loads(answer.json()["choices"][0]["message"]["content"]), SCHEMA)
    assert engine.process.poll() is None
    assert (engine.process.pid, engine.events("phase")) == before
    assert idle(engine)


def test_a_form_that_cannot_be_made_is_told_before_the_model_is_loaded(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    write_model(model)
    output = {"grammar": "root ::= nowhere"}
    engine = Engine(tmp_path, config(f"file://{model}", output=output))
    assert engine.exit_code() == 2
    reason = engine.termination_log.read_text()
    assert reason.startswith(
        "spec.output.grammar: xgrammar can't generate answers with this structure: EBNF"
    )
    assert "nowhere" in reason
    assert "loading" not in [entry["phase"] for entry in engine.events("phase")]
