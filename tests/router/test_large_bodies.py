"""Large bodies: refused as soon as they can't be used, and parsed in steps as small ones are at once."""

import json
from typing import Any

import pytest

from slipstream_runtime.router.messages.request import parse_large, parse_request
from slipstream_runtime.router.messages.structure import Structure
from slipstream_runtime.web import asgi
from slipstream_runtime.web.refusal import Refusal
from tests.support import backends
from tests.support.routers import CHAT, routing

MIB = 1024 * 1024
HEAD = b"POST %s HTTP/1.1\r\nHost: r\r\nContent-Type: application/json\r\n" % CHAT.encode()
LARGE_TEXT = {"user": "x" * MIB}


def parsed(raw: bytes) -> Any:
    structure = Structure()
    structure.add(raw)
    steps = parse_large(raw, structure, path=CHAT)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


@pytest.mark.parametrize("piece", [b"[[[[]]]],", b"[],", b"0,"], ids=["nested", "lists", "numbers"])
async def test_a_body_of_too_many_parts_is_refused_before_its_end_came(piece: bytes) -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        whole = b'{"model":"zz","x":[' + piece * (15 * MIB // len(piece))
        length = b"Content-Length: %d\r\n\r\n" % (asgi.BODY_LIMIT - 1)
        # NB: the rest of it never comes.
        assert (await router.raw(HEAD + length + whole[: 12 * MIB])).startswith(b"HTTP/1.1 413")
        assert router.router.memory.used == 0


async def test_a_large_body_that_names_two_models_goes_to_the_one_that_engines_read() -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        text = json.dumps(LARGE_TEXT).encode()
        for names in (b'"model":"other","model":"m",', b'"mod\\u0065l":"other","model":"m",'):
            raw = b"{" + names + text[1:]
            length = b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(raw)
            assert (await router.raw(HEAD + length + raw)).startswith(b"HTTP/1.1 200")
            pairs = json.loads(engine.received[-1].body, object_pairs_hook=list)
            assert [value for name, value in pairs if name == "model"][-1] == "m"


def photo(text: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{text}"}}


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "user", "content": [photo("A" * 5000) for _ in range(200)]}]},
        {"messages": [{"role": "user", "content": "hi"}] * 20_000},
        {"prompt": [[1, 2, 3]] * 50_000, "stream": True},
        {"tools": [{"model": "x"}], **LARGE_TEXT},
    ],
    ids=["photos", "messages", "tokens", "models"],
)
def test_a_large_body_is_read_as_a_small_one(fields: dict[str, Any]) -> None:
    raw = json.dumps({"model": "m", **fields}).encode()
    small, large = parse_request(raw, path=CHAT), parsed(raw)
    for name in ("model", "stream", "prompt_tokens", "content"):
        assert getattr(small, name) == getattr(large, name), name


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"[1" + b",1" * MIB + b"]", "not a JSON object"),
        (b'{"model":"m","x":' + b"[" * 64 + b"]" * 64 + b" " * MIB + b"}", "64 levels"),
        (b'{"model":"m","x":' + b" " * MIB, "not valid JSON"),
        (b'{"x":1' + b" " * MIB + b"}", "must be a model name"),
    ],
)
def test_a_large_body_that_is_malformed_is_refused_as_a_small_one(raw: bytes, text: str) -> None:
    for parse in (parsed, lambda raw: parse_request(raw, path=CHAT)):
        with pytest.raises(Refusal) as refused:
            parse(raw)
        assert refused.value.status == 400
        assert text in refused.value.message


async def test_a_body_that_comes_byte_by_byte_is_read() -> None:
    async with backends.running() as (engine,), routing(engine) as router:
        text = json.dumps({"model": "m", "messages": [], "user": "x" * 3000}).encode()
        sent = b"".join(b"1\r\n%c\r\n" % byte for byte in text) + b"0\r\n\r\n"
        head = HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert (await router.raw(head + sent)).startswith(b"HTTP/1.1 200")
        assert json.loads(engine.received[-1].body)["user"] == "x" * 3000
