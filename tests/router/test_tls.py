"""TLS of clients and of engines: real processes, real certificates, which change while both run."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from slipstream_runtime import contract
from slipstream_runtime.contract import AUTHORITIES
from slipstream_runtime.web.certificates import PRIVATE_KEY
from tests.router.test_process import Process, started
from tests.support.certificates import Authority
from tests.support.routers import CHAT, DEADLINE, service

ENGINES = "slipstream-engines.team.svc"
ROUTER = "chat.team.svc"
BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}


class Place:
    """Folders of the certificates of a router and of an engine, by one authority each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.of_clients = Authority()
        self.of_engines = Authority()
        self.router = self.of_clients.fill(folder / "router", ROUTER)
        self.engine = self.of_engines.fill(folder / "engine", ENGINES)

    def trust(self, authority: Authority) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=authority.pem.decode())

    @contextlib.asynccontextmanager
    async def simulator(self) -> AsyncIterator[dict[str, Any]]:
        settings = self.folder / "simulator.json"
        settings.write_text(
            json.dumps({"model": {"name": "m"}, "coldStart": 0, "certificate": str(self.engine)})
        )
        async with started(contract.SIMULATOR_MODULE, "--config", str(settings)) as (_, ports):
            yield ports

    @contextlib.asynccontextmanager
    async def routed(
        self, engine: dict[str, Any], *options: str, hold: float = DEADLINE
    ) -> AsyncIterator[tuple[Process, dict[str, Any]]]:
        config, endpoints = self.folder / "router.json", self.folder / "endpoints.json"
        config.write_text(
            json.dumps({"namespace": "team", "services": [service(limits={"hold": hold})]})
        )
        entry = {
            "host": "127.0.0.1",
            "port": engine["api"],
            "managementPort": engine["management"],
            "scheme": "https",
        }
        endpoints.write_text(json.dumps({"revisions": {"chat-1": [entry]}}))
        files = ("--config", str(config), "--endpoints", str(endpoints))
        tls = ("--tls", str(self.router), "--tls-port", "0")
        async with started(contract.ROUTER_MODULE, *files, *tls, *options) as found:
            yield found

    @property
    def trusting(self) -> tuple[str, ...]:
        return ("--engine-authorities", str(self.engine), "--engine-host", ENGINES)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def ask(port: int, trusted: ssl.SSLContext) -> tuple[int, Any]:
    """Send one chat on a connection of its own."""
    async with (
        aiohttp.ClientSession() as http,
        http.post(
            f"https://127.0.0.1:{port}{CHAT}", json=BODY, ssl=trusted, server_hostname=ROUTER
        ) as reply,
    ):
        return reply.status, await reply.json()


async def eventually(port: int, trusted: ssl.SSLContext) -> None:
    """Ask until the router presents a certificate that is trusted."""
    async with asyncio.timeout(DEADLINE):
        while True:
            with contextlib.suppress(aiohttp.ClientConnectorError):
                await ask(port, trusted)
                return


async def test_clients_and_engines_speak_tls(place: Place) -> None:
    async with (
        place.simulator() as engine,
        place.routed(engine, "--no-plain", *place.trusting) as (_, ports),
    ):
        assert "api" not in ports
        status, answer = await ask(ports["tls"], place.trust(place.of_clients))
        assert (status, answer["usage"]["completion_tokens"]) == (200, 3)


async def test_certificates_change_without_a_restart(place: Place) -> None:
    async with (
        place.simulator() as engine,
        place.routed(engine, *place.trusting) as (router, ports),
        aiohttp.ClientSession() as http,
    ):
        url, before = f"https://127.0.0.1:{ports['tls']}{CHAT}", place.trust(place.of_clients)
        kept = {"json": BODY, "ssl": before, "server_hostname": ROUTER}
        async with http.post(url, **kept) as reply:
            assert reply.status == 200
        later = Authority()
        later.fill(place.router, ROUTER)
        Authority().fill(place.engine, ENGINES)
        await eventually(ports["tls"], place.trust(later))
        async with http.post(url, **kept) as reply:  # on the connection that it has
            assert reply.status == 200
        status, _ = await ask(ports["tls"], place.trust(later))
        assert status == 200
        assert router.returncode is None


async def test_an_unusable_certificate_leaves_the_one_before(place: Place) -> None:
    async with place.simulator() as engine, place.routed(engine, *place.trusting) as (_, ports):
        trusted = place.trust(place.of_clients)
        assert (await ask(ports["tls"], trusted))[0] == 200
        (place.router / PRIVATE_KEY).write_bytes(b"not a key")
        assert (await ask(ports["tls"], trusted))[0] == 200


@pytest.mark.parametrize("fault", ["authority", "name"])
async def test_an_engine_with_a_foreign_certificate_gets_no_request(
    place: Place, fault: str
) -> None:
    signer = Authority() if fault == "authority" else place.of_engines
    signer.fill(place.engine, ENGINES if fault == "authority" else "other.team.svc")
    trusted = place.folder / "trusted"
    trusted.mkdir()
    (trusted / AUTHORITIES).write_bytes(place.of_engines.pem)
    options = ("--engine-authorities", str(trusted), "--engine-host", ENGINES)
    async with place.simulator() as engine, place.routed(engine, *options) as (_, ports):
        status, answer = await ask(ports["tls"], place.trust(place.of_clients))
        assert status == 502
        assert answer["error"]["message"] == f"The replica has no valid certificate for {ENGINES}."


async def test_a_router_that_trusts_no_authority_sends_engines_with_tls_nothing(
    place: Place,
) -> None:
    async with place.simulator() as engine, place.routed(engine, hold=0.5) as (_, ports):
        status, _ = await ask(ports["tls"], place.trust(place.of_clients))
        assert status == 503


async def test_it_is_ready_once_it_has_a_certificate(place: Place) -> None:
    (place.router / PRIVATE_KEY).unlink()
    async with (
        place.simulator() as engine,
        place.routed(engine, *place.trusting) as (_, ports),
        aiohttp.ClientSession() as http,
    ):
        probe = f"http://127.0.0.1:{ports['management']}{contract.READY_PATH}"
        async with http.get(probe) as reply:
            assert reply.status == 503
        place.of_clients.fill(place.router, ROUTER)
        async with asyncio.timeout(DEADLINE):
            while True:
                async with http.get(probe) as reply:
                    if reply.status == 200:
                        return
