"""Router in this process on real sockets, and clients of it."""

import asyncio
import contextlib
import io
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from dev import metrics
from slipstream_runtime import contract
from slipstream_runtime.router import config
from slipstream_runtime.router.app import Router
from slipstream_runtime.router.balancing.endpoints import Address
from slipstream_runtime.web import sockets
from tests.support.backends import Backend

DEADLINE = 120.0
"""Seconds after which a condition counts as never true: far more than a slow machine needs."""
CHAT = "/v1/chat/completions"
NOWHERE = Path("/nonexistent")


async def until(condition: Callable[[], bool]) -> None:
    """Run the event loop until the condition holds."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 (turns of the loop, as in clients.turns)
            await asyncio.sleep(0.002)


def service(**fields: Any) -> dict[str, Any]:
    revisions = [{"name": "chat-1", "weight": 100}]
    return {
        "name": "chat",
        "model": "m",
        "revisions": revisions,
        "activation": "chat-activation",
        **fields,
    }


def address(backend: Backend, name: str | None = None) -> Address:
    name = name or f"pod-{backend.port}"
    return Address(name, "127.0.0.1", backend.port, backend.port)


class Reply:
    """Response as a client got it."""

    def __init__(self, status: int, headers: Any, body: bytes, *, whole: bool) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.whole = whole
        """Whether the connection lasted to the end of the response."""

    @property
    def content(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        found = self.content["error"]
        assert set(found) == {"message", "type", "param", "code"}
        assert found["code"] == self.status
        return found

    @property
    def events(self) -> list[Any]:
        found = [line.removeprefix("data: ") for line in self.body.decode().split("\n\n") if line]
        return [each if each == "[DONE]" else json.loads(each) for each in found]


class Running:
    """Router under test."""

    def __init__(self, router: Router, ports: tuple[int, int], http: aiohttp.ClientSession) -> None:
        self.router = router
        self.port, self.management = ports
        self.http = http
        self.renewed: list[str] = []
        self.settings: dict[str, Any] = {}

    def configure(self, *services: dict[str, Any], routes: Sequence[dict[str, Any]] = ()) -> None:
        found = {"namespace": "team", "services": services, "routes": routes}
        self.router.configure(config.Config.model_validate(found))

    def engines(self, *backends: Backend) -> None:
        self.place({"chat-1": backends})

    def place(self, found: Mapping[str, Sequence[Backend]]) -> None:
        """Set the engines of each revision."""
        self.router.update({name: [address(b) for b in some] for name, some in found.items()})

    async def ask(
        self,
        path: str = CHAT,
        *,
        raw: bytes | None = None,
        headers: dict[str, str] | None = None,
        **fields: Any,
    ) -> Reply:
        body = raw
        if body is None:
            messages = [{"role": "user", "content": "hi"}]
            body = json.dumps({"model": "m", "messages": messages, **fields}).encode()
        headers = {"content-type": "application/json", **(headers or {})}
        url = f"http://127.0.0.1:{self.port}{path}"
        # NB: aiohttp warns of large bytes, and sends a file in parts.
        async with self.http.post(url, data=io.BytesIO(body), headers=headers) as response:
            parts = []
            try:
                async for part in response.content.iter_any():
                    parts.append(part)
            except aiohttp.ClientError:
                return Reply(response.status, response.headers, b"".join(parts), whole=False)
            return Reply(response.status, response.headers, b"".join(parts), whole=True)

    async def get(self, path: str, **headers: str) -> Reply:
        url = f"http://127.0.0.1:{self.port}{path}"
        async with self.http.get(url, headers=headers) as response:
            return Reply(response.status, response.headers, await response.read(), whole=True)

    async def raw(self, data: bytes) -> bytes:
        """Return all bytes that the router answers, until it closes the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            async with asyncio.timeout(DEADLINE):
                return await reader.read(-1)
        except ConnectionError:
            return b""
        finally:
            writer.close()

    async def metric(self, name: str, **labels: str) -> float:
        text = (await self.router.metrics.render()).decode()
        return metrics.total(text, name, **labels)

    @property
    def chat(self) -> Any:
        return next(iter(self.router.table.services()))

    async def records(self, **query: str) -> list[dict[str, Any]]:
        """Return the records of the newest requests, the newest first."""
        url = f"http://127.0.0.1:{self.management}{contract.RECORDS_PATH}"
        async with self.http.get(url, params=query) as response:
            assert response.status == 200
            return [json.loads(line) for line in (await response.read()).splitlines()]

    def settled(self) -> bool:
        """Whether no request is counted as in flight or queued."""
        services = self.router.table.services()
        return self.router.front.in_flight == 0 and all(
            s.in_flight == 0 and s.queued == 0 and all(e.in_flight == 0 for e in s.pool)
            for s in services
        )


@contextlib.asynccontextmanager
async def routing(
    *backends: Backend,
    services: Sequence[dict[str, Any]] | None = None,
    limits: dict[str, Any] | None = None,
    keys: Path = NOWHERE,
    token: Path = NOWHERE,
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], float] = time.time,
    chance: Callable[[], float] = lambda: 0.0,
    **options: Any,
) -> AsyncIterator[Running]:
    """Run a router of one service `chat` with model `m` and these engines; no request may be in flight at the end."""
    api, management = sockets.bind(0), sockets.bind(0)
    ports = (api.getsockname()[1], management.getsockname()[1])
    renewed: list[str] = []

    async def renew(lease: str) -> None:
        renewed.append(lease)

    router = Router(
        api=api,
        management=management,
        renew=renew,
        clock=clock,
        now=now,
        chance=chance,
        keys=keys,
        token=token,
        **options,
    )
    connector = aiohttp.TCPConnector(limit=0)
    async with router, aiohttp.ClientSession(connector=connector) as http:
        running = Running(router, ports, http)
        running.renewed = renewed
        running.configure(*(services or [service(limits=limits or {})]))
        running.engines(*backends)
        yield running
        await until(running.settled)
