"""Prometheus behind TLS and authentication: tokens, headers and certificates from Secrets, which appear nowhere."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from dev.cluster.pki import Authority, Subject
from slipstream_operator import errors
from slipstream_operator.adapters import credentials, metrics
from slipstream_operator.core.prometheus import Server
from slipstream_operator.core.scaling.metrics.values import Sample, Unknown

TOKEN = "a-very-secret-token"
VECTOR = {
    "status": "success",
    "data": {
        "resultType": "vector",
        "result": [{"metric": {"pod": "a"}, "value": [1767000000.0, "1"]}],
    },
}
FOUND = [Sample({"pod": "a"}, 1.0)]


class Guarded:
    """A TLS server that wants a token and a tenant, and repeats the request's headers when it refuses."""

    def __init__(self, folder: Path) -> None:
        authority = Authority(folder / "pki")
        authority.issue("server", subject=Subject("server", addresses=["127.0.0.1"]))
        self.ca = authority.certificate.read_bytes()
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.load_cert_chain(folder / "pki/server.crt", folder / "pki/server.key")
        self.token = TOKEN
        self.moved_to: str | None = None
        self.url = ""
        self.seen: list[Mapping[str, str]] = []
        self.peers: list[Any] = []
        """Address of the client's end of the connection of each request."""
        self._connections: list[asyncio.BaseTransport] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.seen.append(request.headers)
        assert request.transport is not None
        self._connections.append(request.transport)
        self.peers.append(request.transport.get_extra_info("peername"))
        if self.moved_to is not None:
            raise web.HTTPTemporaryRedirect(self.moved_to)
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return web.Response(status=401, text=f"no: {dict(request.headers)}")
        if request.headers.get("x-scope-orgid") != "tenant-1":
            return web.Response(status=400, text=f"no: {dict(request.headers)}")
        return web.json_response(VECTOR)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Guarded"]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self.context).start()
        self.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            for connection in self._connections:
                connection.abort()  # type: ignore[attr-defined]
            await runner.cleanup()


class Secrets:
    """Secrets of the operator's namespace."""

    def __init__(self, **entries: bytes) -> None:
        self.entries: dict[str, bytes] | None = entries
        self.error: Exception | None = None

    async def read(self, name: str) -> Mapping[str, bytes]:
        assert name == "slipstream-prometheus"
        if self.error is not None:
            raise self.error
        if self.entries is None:
            raise errors.NotFound("404")
        return dict(self.entries)


def server(url: str, **fields: Any) -> Server:
    found: dict[str, Any] = {
        "token": ("slipstream-prometheus", "token"),
        "ca": ("slipstream-prometheus", "ca"),
        "headers": (("X-Scope-OrgID", "tenant-1"),),
        **fields,
    }
    return Server(url, **found)


async def ask(adapter: metrics.Metrics, asked: Server) -> Any:
    found = (await adapter.query(asked, {"up": "up"}))["up"]
    if isinstance(found, Unknown):
        assert TOKEN not in found.reason
    return found


async def test_token_headers_and_certificates_come_from_secrets(tmp_path: Path) -> None:
    async with Guarded(tmp_path).running() as guarded:
        secrets = Secrets(token=f"{TOKEN}\n".encode(), ca=guarded.ca)
        assert await ask(metrics.Metrics(secrets.read), server(guarded.url)) == FOUND


async def test_a_header_may_come_from_a_secret(tmp_path: Path) -> None:
    async with Guarded(tmp_path).running() as guarded:
        secrets = Secrets(token=TOKEN.encode(), ca=guarded.ca, tenant=b"tenant-1")
        headers = (("X-Scope-OrgID", ("slipstream-prometheus", "tenant")),)
        assert (
            await ask(metrics.Metrics(secrets.read), server(guarded.url, headers=headers)) == FOUND
        )


@pytest.mark.parametrize("ca", [None, "another"])
async def test_a_server_whose_certificate_is_not_trusted_gets_no_token(
    tmp_path: Path, ca: str | None
) -> None:
    async with Guarded(tmp_path).running() as guarded:
        other = Authority(tmp_path / "other").certificate.read_bytes()
        secrets = Secrets(token=TOKEN.encode(), ca=other)
        asked = server(guarded.url) if ca else server(guarded.url, ca=None)
        assert await ask(metrics.Metrics(secrets.read), asked) == Unknown(
            "Prometheus did not answer: its certificate is not trusted, has expired or is for another name. Check "
            "caSecret and url of spec.prometheus in the ServingProfile"
        )
        assert not guarded.seen


async def test_a_refused_token_is_said_with_a_remedy_and_read_again(tmp_path: Path) -> None:
    async with Guarded(tmp_path).running() as guarded:
        guarded.token = "the-next"
        secrets = Secrets(token=TOKEN.encode(), ca=guarded.ca)
        adapter = metrics.Metrics(secrets.read)
        found = await ask(adapter, server(guarded.url))
        assert found == Unknown(
            "Prometheus refused the operator with HTTP 401. Check tokenSecret and headers of spec.prometheus in the "
            "ServingProfile"
        )
        assert secrets.entries is not None
        secrets.entries["token"] = b"the-next"
        assert await ask(adapter, server(guarded.url)) == FOUND


async def test_a_rotated_token_is_used_within_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Guarded(tmp_path).running() as guarded:
        secrets = Secrets(token=TOKEN.encode(), ca=guarded.ca)
        adapter = metrics.Metrics(secrets.read)
        assert await ask(adapter, server(guarded.url)) == FOUND
        assert secrets.entries is not None
        secrets.entries["token"] = b"the-next"
        await ask(adapter, server(guarded.url))
        assert guarded.seen[-1]["authorization"] == f"Bearer {TOKEN}"
        monkeypatch.setattr(credentials, "REFRESH_SECONDS", 0.0)
        await ask(adapter, server(guarded.url))
        assert guarded.seen[-1]["authorization"] == "Bearer the-next"


async def test_the_connection_stays_while_the_secrets_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "REFRESH_SECONDS", 0.0)
    async with Guarded(tmp_path).running() as guarded:
        secrets = Secrets(token=TOKEN.encode(), ca=guarded.ca)
        adapter = metrics.Metrics(secrets.read)
        connections = set()
        for _ in range(3):
            assert await ask(adapter, server(guarded.url)) == FOUND
            connections.add(guarded.peers[-1])
        assert len(connections) == 1


async def test_an_answer_that_repeats_the_headers_reveals_nothing(tmp_path: Path) -> None:
    async with Guarded(tmp_path).running() as guarded:
        secrets = Secrets(token=TOKEN.encode(), ca=guarded.ca)
        found = await ask(metrics.Metrics(secrets.read), server(guarded.url, headers=()))
        assert found == Unknown("Prometheus refused the query: HTTP Status Code 400")


async def test_a_redirect_takes_no_secret_elsewhere(tmp_path: Path) -> None:
    async with (
        Guarded(tmp_path).running() as guarded,
        Guarded(tmp_path).running() as elsewhere,
    ):
        guarded.moved_to = elsewhere.url
        secrets = Secrets(token=TOKEN.encode(), ca=guarded.ca)
        found = await ask(metrics.Metrics(secrets.read), server(guarded.url))
        assert isinstance(found, Unknown)
        assert "it redirects to another address, which must not get the Secrets" in found.reason
        assert not elsewhere.seen


MISSING = {
    "no Secret": (None, None, "Secret slipstream-prometheus does not exist"),
    "no key": ({}, None, "Secret slipstream-prometheus has no key token. Add it."),
    "no right": ({}, errors.Rejected("403"), "Add its name to the Role slipstream-operator."),
    "no API server": ({}, errors.Unavailable("gone"), "could not be read: gone"),
    "two lines": ({"token": f"{TOKEN}\nx: y".encode()}, None, "is no text for an HTTP header"),
    "bytes": ({"token": b"\xff" + TOKEN.encode()}, None, "is no text for an HTTP header"),
    "empty": ({"token": b"\n"}, None, "is no text for an HTTP header"),
    "no PEM": (
        {"token": TOKEN.encode(), "ca": b"x"},
        None,
        "caSecret: the Secret holds no certificate. Use PEM.",
    ),
}


@pytest.mark.parametrize(("entries", "error", "message"), MISSING.values(), ids=MISSING)
async def test_what_a_secret_lacks_is_said_with_a_remedy(
    entries: dict[str, bytes] | None, error: Exception | None, message: str
) -> None:
    secrets = Secrets()
    secrets.entries, secrets.error = entries, error
    found = await ask(metrics.Metrics(secrets.read), server("https://127.0.0.1:1"))
    assert isinstance(found, Unknown)
    assert found.reason.startswith("spec.prometheus.")
    assert message in found.reason


async def test_without_credentials_a_refusal_names_the_fields(tmp_path: Path) -> None:
    async with Guarded(tmp_path).running() as guarded:
        secrets = Secrets(ca=guarded.ca)
        found = await ask(metrics.Metrics(secrets.read), server(guarded.url, token=None))
        assert isinstance(found, Unknown)
        assert "Set tokenSecret or headers of spec.prometheus" in found.reason


def test_no_text_of_a_server_holds_a_secret() -> None:
    found = credentials.Credentials({"Authorization": f"Bearer {TOKEN}"}, None)
    assert TOKEN not in f"{found} {found!r} {server('https://p')!r}"
