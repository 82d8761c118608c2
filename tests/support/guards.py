"""Requests to an application behind an engine's limits."""

import asyncio
import json
from typing import Any

from slipstream_runtime.host import front
from slipstream_runtime.host.lifecycle import Phase
from slipstream_runtime.host.limits import Limits
from slipstream_runtime.web import asgi
from tests.support.clients import KEY, Client, life_in, request


def guarded(app: asgi.Application, *, limits: dict[str, Any] | None = None, **more: Any) -> Any:
    guard = front.Guard(limits=Limits.model_validate(limits or {}), **more)
    return front.Front(app, life=life_in(Phase.READY), probe_key=KEY, guard=guard)


class Request:
    """A request under way."""

    def __init__(self, guard: front.Front, scope: asgi.Scope | None = None, *parts: bytes) -> None:
        self.client = Client(*parts)
        scope = scope or request()
        self.task = asyncio.ensure_future(guard(scope, self.client.receive, self.client.send))

    async def answered(self) -> Client:
        await self.task
        return self.client


async def ask(guard: front.Front, scope: asgi.Scope | None = None, *parts: bytes) -> Client:
    return await Request(guard, scope, *parts).answered()


def error(client: Client) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(client.body)["error"]
    assert set(content) == {"message", "type", "param", "code"}
    assert content["code"] == client.status
    return content
