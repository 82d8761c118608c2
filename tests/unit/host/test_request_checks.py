"""Bodies, malformed requests and API keys before a request reaches the engine."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from slipstream_runtime.web import asgi, keyring
from slipstream_runtime.web.openai import Reason
from slipstream_runtime.web.refusal import Refusal
from slipstream_runtime.web.tenants import Tenancy
from tests.support.clients import answer, request
from tests.support.guards import ask, error, guarded


async def echo(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
    content = {
        "body": (await asgi.read(receive)).decode(),
        "headers": [[name.decode(), value.decode()] for name, value in scope["headers"]],
    }
    await asgi.respond_json(send, content)


async def test_a_body_in_parts_reaches_the_application_as_it_was_sent() -> None:
    client = await ask(guarded(echo), None, b' {"a":', b" [1", b"]} ")
    assert json.loads(client.body)["body"] == ' {"a": [1]} '


async def test_a_rule_sets_fields_and_the_length_follows() -> None:
    def rule(path: str, content: Mapping[str, Any], size: int) -> Mapping[str, object]:
        assert (path, content, size) == ("/v1/chat/completions", {"a": 1}, 7)
        return {"b": 2}

    scope = request(headers=[(b"content-length", b"7")])
    found = json.loads((await ask(guarded(echo, rule=rule), scope, b'{"a":1}')).body)
    assert found["body"] == '{"a":1,"b": 2}'
    assert ["content-length", "14"] in found["headers"]


async def test_a_rule_that_is_broken_is_told() -> None:
    def rule(path: str, content: Mapping[str, Any], size: int) -> Mapping[str, object]:
        raise Refusal(400, "too many", reason=Reason.OUTPUT_TOO_LONG, param="max_tokens")

    guard = guarded(answer, rule=rule)
    client = await ask(guard)
    assert error(client)["param"] == "max_tokens"
    assert guard.refused[Reason.OUTPUT_TOO_LONG] == 1


@pytest.mark.parametrize(
    ("headers", "parts", "status", "reason"),
    [
        ([(b"content-length", b"99999999")], [b"{}"], 413, Reason.TOO_LARGE),
        ([], [b'{"a":"' + b"a" * 9_000_000, b"a" * 9_000_000, b'"}'], 413, Reason.TOO_LARGE),
        ([(b"content-type", b"text/plain")], [b"{}"], 415, Reason.MALFORMED),
        ([], [b"nonsense"], 400, Reason.MALFORMED),
        ([], [b"[" * 10_000], 400, Reason.MALFORMED),
    ],
)
async def test_malformed_requests_never_reach_the_engine(
    headers: list[tuple[bytes, bytes]], parts: list[bytes], status: int, reason: Reason
) -> None:
    async def never(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        raise AssertionError

    guard = guarded(never)
    client = await ask(guard, request(headers=headers), *parts)
    assert client.status == status
    error(client)
    assert guard.refused[reason] == 1


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/v1/chat/completions", "POST", 401),
        ("/v1/completions", "POST", 401),
        ("/v1/embeddings", "POST", 401),
        ("/v1/responses", "POST", 401),
        ("/v1/responses/resp_1", "GET", 401),
        ("/v1/models", "GET", 401),
        ("/health", "GET", 200),
        ("/version", "GET", 200),
        ("/v1/models", "OPTIONS", 200),
    ],
)
async def test_without_a_key_only_health_version_and_preflights_are_answered(
    tmp_path: Path, path: str, method: str, status: int
) -> None:
    (tmp_path / "team").write_text("good")
    guard = guarded(answer, keys=keyring.mounted(tmp_path))
    for headers in ([], [(b"authorization", b"Bearer bad")]):
        client = await ask(guard, request(path, method=method, headers=headers))
        assert client.status == status
        if status == 401:
            assert client.headers[b"www-authenticate"] == b"Bearer"
            assert error(client)["type"] == "AuthenticationError"
    known = request(path, method=method, headers=[(b"authorization", b"Bearer good")])
    assert (await ask(guard, known)).status == 200
    assert guard.refused[Reason.UNAUTHORIZED] == (2 if status == 401 else 0)


OWN = b'{"model": "m", "cache_salt": "of-a", "priority": -99}'


def keep_keys(folder: Path) -> None:
    digest = hashlib.sha256(b"key-a").hexdigest()
    document = {"sha256": digest, "tenant": "a", "priority": 10, "models": ["m"]}
    (folder / "entry").write_text(json.dumps(document))
    (folder / "b").write_text("key-b")


async def sent(guard: Any, key: str, content: bytes = OWN) -> Any:
    scope = request(headers=[(b"authorization", f"Bearer {key}".encode())])
    client = await ask(guard, scope, content)
    assert client.status == 200
    return json.loads(json.loads(client.body)["body"])


async def test_clients_that_reach_an_engine_directly_have_the_salt_and_priority_of_their_key(
    tmp_path: Path,
) -> None:
    keep_keys(tmp_path)
    guard = guarded(echo, keys=keyring.mounted(tmp_path), tenancy=Tenancy("chat"))
    a, b = await sent(guard, "key-a"), await sent(guard, "key-b")
    assert (a["priority"], b["priority"]) == (-10, 0)
    assert len({a["cache_salt"], b["cache_salt"], "of-a"}) == 3
    assert (await sent(guard, "key-a", b'{"model": "m"}'))["cache_salt"] == a["cache_salt"]


async def test_tenants_share_prefixes_if_the_service_says_so_and_no_priority(
    tmp_path: Path,
) -> None:
    keep_keys(tmp_path)
    shared = Tenancy("chat", scope="Service")
    guard = guarded(echo, keys=keyring.mounted(tmp_path), tenancy=shared)
    assert await sent(guard, "key-a") == {"model": "m", "cache_salt": "of-a", "priority": -10}
    assert await sent(guard, "key-b", b'{"model": "m"}') == {"model": "m"}


async def test_without_keys_no_client_of_an_engine_has_a_priority() -> None:
    guard = guarded(echo, tenancy=Tenancy("chat", keys=False))
    assert (await sent(guard, "any"))["priority"] == 0
    assert await sent(guard, "any", b'{"model": "m"}') == {"model": "m"}


async def test_behind_a_router_the_fields_stay_as_the_router_set_them(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("of-the-router")
    guard = guarded(echo, keys=keyring.mounted(tmp_path))
    assert await sent(guard, "of-the-router") == json.loads(OWN)


async def test_a_key_for_other_models_is_403_at_an_engine(tmp_path: Path) -> None:
    keep_keys(tmp_path)
    guard = guarded(echo, keys=keyring.mounted(tmp_path), tenancy=Tenancy("chat"))
    headers = [(b"authorization", b"Bearer key-a")]
    for content in (b'{"model": "other"}', b"{}"):
        client = await ask(guard, request(headers=headers), content)
        assert client.status == 403


async def test_a_body_beyond_the_largest_of_its_path_is_not_read() -> None:
    guard = guarded(echo, largest=lambda path: 10 if path == "/v1/chat/completions" else 1)
    assert (await ask(guard, None, b'{"a":1}')).status == 200
    assert (await ask(guard, None, b'{"a":1', b"234567}")).status == 413
    declared = request(headers=[(b"content-length", b"11")])
    assert (await ask(guard, declared)).status == 413
