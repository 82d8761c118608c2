"""Malformed HTTP requests without end, always the same ones for a seed."""

import asyncio
import contextlib
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

from slipstream_runtime.web import asgi

ROUTES = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings")
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**63, 2**64, -(2**63) - 1, 10**30, 10**300, 0.5, -0.0, 1e308,
    1e-320, "", "a", "100", "\x00", "\ud800", "\U0010ffff", "é" * 50, "{{ 7 * 7 }}", "../../etc/passwd",
    [], [None], [[]], [[[]]], [1, "a", None], [-1], [2**63], [10**6], [""], ["\ud800"], {}, {"a": {}},
    {"type": "json_schema"}, {"type": "json_object", "json_schema": 1}, {"json": {"$ref": "#/a"}},
    {"json": "{"}, {"regex": "("}, {"regex": "(a*)*b"}, {"grammar": "root ::="}, {"choice": []},
    {"role": "user"}, [{"role": "user"}], [{"role": None, "content": 1}],
    [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}],
    [{"role": "tool", "content": "", "tool_call_id": 3}], [{"type": "function"}], "A" * 20_000,
)  # fmt: skip
_FIELDS = (
    "model", "messages", "prompt", "input", "max_tokens", "max_completion_tokens", "max_output_tokens",
    "n", "stop", "stream", "stream_options", "temperature", "top_p", "top_k", "min_p", "min_tokens", "seed",
    "logprobs", "top_logprobs", "prompt_logprobs", "logit_bias", "presence_penalty", "frequency_penalty",
    "repetition_penalty", "response_format", "structured_outputs", "tools", "tool_choice", "text",
    "stop_token_ids", "bad_words", "allowed_token_ids", "truncate_prompt_tokens", "echo", "suffix",
    "prompt_embeds", "user", "priority", "request_id", "kv_transfer_params", "vllm_xargs", "cache_salt",
    "chat_template", "chat_template_kwargs", "add_generation_prompt", "continue_final_message", "documents",
    "mm_processor_kwargs", "include_stop_str_in_output", "ignore_eos", "skip_special_tokens", "reasoning",
    "previous_response_id", "background", "store", "use_beam_search", "length_penalty", "encoding_format",
    "dimensions", "__proto__", "", "\ud800",
)  # fmt: skip


class Malformed:
    """A source of requests as bytes, ready to be sent to the server."""

    def __init__(self, *, model: str, key: str, seed: int) -> None:
        self._random = random.Random(seed)
        self._model = model
        self._key = key

    def requests(self, count: int) -> Iterator[tuple[bytes, bool]]:
        """That many requests with `Connection: close`, and whether the client must leave lest the server waits."""
        kinds: tuple[Callable[[], bytes], ...] = (
            self._broken_json,
            self._wrong_types,
            self._wrong_types,
            self._nested,
            self._not_text,
            self._not_an_object,
            self._bad_headers,
            self._bad_method,
            self._bad_path,
        )
        incomplete = (self._bad_lengths, self._truncated, self._bad_chunks, self._noise)
        every = [*((kind, False) for kind in kinds), *((kind, True) for kind in incomplete)]
        for number in range(count):
            kind, leaves = every[number % len(every)]
            yield kind(), leaves

    def _good(self) -> dict[str, Any]:
        return {
            "model": self._model,
            "messages": [{"role": "user", "content": "hello"}],
            "prompt": "hello",
            "input": "hello",
            "max_tokens": 1,
            "max_completion_tokens": 1,
            "max_output_tokens": 1,
        }

    def _send(
        self,
        body: bytes,
        *,
        method: bytes = b"POST",
        path: bytes | None = None,
        headers: tuple[bytes, ...] | None = None,
        length: int | None = None,
    ) -> bytes:
        if headers is None:
            headers = (
                b"Content-Type: application/json",
                b"Authorization: Bearer " + self._key.encode(),
            )
        route = self._random.choice(ROUTES).encode() if path is None else path
        lines = [
            method + b" " + route + b" HTTP/1.1",
            b"Host: engine",
            b"Connection: close",
            *headers,
            b"Content-Length: %d" % (len(body) if length is None else length),
        ]
        return b"\r\n".join(lines) + b"\r\n\r\n" + body

    def _broken_json(self) -> bytes:
        text = bytearray(json.dumps(self._good()).encode())
        for _ in range(self._random.randint(1, 4)):
            at = self._random.randrange(len(text))
            match self._random.randrange(3):
                case 0:
                    del text[at : at + self._random.randint(1, 9)]
                case 1:
                    text[at:at] = self._random.choice(
                        [b"{", b"}", b'"', b",", b"NaN", b"\\u", b"\x00", b"[", b"Infinity", b"'"]
                    )
                case _:
                    text[at] = self._random.randrange(256)
            text = text or bytearray(b"{")
        return self._send(bytes(text))

    def _wrong_types(self) -> bytes:
        body = self._good()
        for _ in range(self._random.randint(1, 3)):
            body[self._random.choice(_FIELDS)] = self._random.choice(_VALUES)
        return self._send(json.dumps(body).encode())

    def _nested(self) -> bytes:
        depth = self._random.choice([65, 100, 1000, 20_000])
        opening, closing = self._random.choice([(b"[", b"]"), (b'{"a":', b"}")])
        field = self._random.choice(_FIELDS[1:-1]).encode()
        return self._send(b'{"%s":%s1%s}' % (field, opening * depth, closing * depth))

    def _not_text(self) -> bytes:
        text = json.dumps(self._good())
        body = self._random.choice(
            [
                text.replace("hello", "h\udcffllo").encode(errors="surrogateescape"),
                text.encode("utf-16"),
                text.encode("utf-32"),
                b"\xef\xbb\xbf" + text.encode(),
                b"\x1f\x8b" + self._random.randbytes(200),
                text.replace('"hello"', r'"\ud800\udfff\ud8"').encode(),
            ]
        )
        return self._send(body)

    def _not_an_object(self) -> bytes:
        return self._send(
            self._random.choice(
                [b"", b"[]", b"null", b"1", b'"a"', b"9" * 9000, b"[1,2", b"true", b"{}"]
            )
        )

    def _bad_headers(self) -> bytes:
        good = json.dumps(self._good()).encode()
        key = b"Authorization: Bearer " + self._key.encode()
        kind = b"Content-Type: application/json"
        headers: tuple[bytes, ...] = self._random.choice(
            [
                (kind,),
                (kind, b"Authorization: Bearer wrong"),
                (kind, b"Authorization: Bearer \xff\xfe"),
                (kind, b"Authorization: Basic " + self._key.encode()),
                (kind, key, key),
                (key,),
                (key, b"Content-Type: text/html"),
                (key, b"Content-Type: application/json\x00"),
                (key, b"Content-Type: " + b"a" * 5000),
                (kind, key, b"X: " + b"a" * 100_000),
                (kind, key, b"Expect: everything"),
                (kind, key, b"Content-Encoding: gzip"),
                (kind, key, b"Upgrade: websocket"),
                (kind, key, b"no colon"),
                (kind, key, b" folded: yes"),
                (kind, key, b"X-Slipstream-Probe: guess"),
            ]
        )
        return self._send(good, headers=headers)

    def _bad_lengths(self) -> bytes:
        headers = (
            b"Content-Type: application/json",
            b"Authorization: Bearer " + self._key.encode(),
        )
        bad = self._random.choice(
            [
                b"Content-Length: -1",
                b"Content-Length: 99999999999999999999",
                b"Content-Length: %d" % (asgi.MEDIA_LIMIT + 1),
                b"Content-Length: 2e1",
                b"Transfer-Encoding: chunked",
                b"Transfer-Encoding: gzip",
            ]
        )
        request = self._send(b"{}", headers=(*headers, bad))
        return self._random.choice([request, request.replace(b"Content-Length: 2\r\n", b"")])

    def _bad_method(self) -> bytes:
        method = self._random.choice(
            [
                b"GET",
                b"PUT",
                b"DELETE",
                b"PATCH",
                b"HEAD",
                b"TRACE",
                b"CONNECT",
                b"OPTIONS",
                b"post",
                b"P\x00ST",
                b"",
            ]
        )
        return self._send(b"{}", method=method)

    def _bad_path(self) -> bytes:
        path = self._random.choice(
            [
                b"/tokenize",
                b"/invocations",
                b"/v1/chat/completions/",
                b"//v1/completions",
                b"/v1/../invocations",
                b"/v1/completions%00",
                b"/v1%2fcompletions/x",
                b"/v1/responses/resp_" + b"a" * 3000,
                b"/%ff%fe",
                b"*",
                b"http://other/tokenize",
                b"/v1/load_lora_adapter",
                b"/\xff",
            ]
        )
        return self._send(json.dumps(self._good()).encode(), path=path)

    def _truncated(self) -> bytes:
        body = json.dumps(self._good()).encode()
        sent = self._random.randrange(len(body))
        return self._send(body[:sent], length=len(body))

    def _bad_chunks(self) -> bytes:
        head = self._send(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        return head + self._random.choice(
            [
                b"zz\r\n{}\r\n0\r\n\r\n",
                b"2\r\n{}",
                b"ffffffffffffffff\r\n{}",
                b"-1\r\n\r\n",
                b"2\r\n{}\r\n0\r\n\r\n",
            ]
        )

    def _noise(self) -> bytes:
        return self._random.randbytes(self._random.randint(1, 400))


class Crowd:
    """Many clients at once, each with one malformed request; notes answers that no server should give."""

    def __init__(self, port: int, *, clients: int = 16) -> None:
        self._port = port
        self._clients = clients
        self.sent = 0
        self.faults: list[bytes] = []

    async def send(self, requests: Iterator[tuple[bytes, bool]]) -> None:
        """Send them all."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._clients):
                group.create_task(self._client(requests))

    async def _client(self, requests: Iterator[tuple[bytes, bool]]) -> None:
        for data, leaves in requests:
            self.sent += 1
            with contextlib.suppress(ConnectionError):
                await self._one(data, leaves=leaves)

    async def _one(self, data: bytes, *, leaves: bool) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(data)
            if leaves:
                writer.write_eof()
            async with asyncio.timeout(20):
                answer = await reader.read(-1)
            if answer.startswith(b"HTTP/1.1 5") or (answer and not answer.startswith(b"HTTP/1.")):
                self.faults.append(data[:300] + b" -> " + answer[:300])
        finally:
            writer.close()
