"""A scripted API server: lists, watches that break off or expire, and Leases; what a real one does rarely."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

CONFIG_MAPS = "configmaps"
SLICES = "endpointslices"
SECRETS = "secrets"
COLLECTIONS = (CONFIG_MAPS, SLICES, SECRETS)


class ApiServer:
    """Objects by collection; every change gets a version and goes to all watches."""

    def __init__(self) -> None:
        self.url = ""
        self.version = 1
        self.objects: dict[str, dict[str, Any]] = {name: {} for name in COLLECTIONS}
        self.lists: list[str] = []
        self.watched_from: list[tuple[str, str]] = []
        self.tokens: list[str] = []
        self.renewals: list[tuple[str, str, Any]] = []
        self.failing = 0
        """So many requests are answered 500."""
        self._history: dict[str, list[tuple[int, bytes]]] = {name: [] for name in COLLECTIONS}
        self._watches: dict[str, set[asyncio.Queue[bytes | None]]] = {
            name: set() for name in COLLECTIONS
        }
        self.gets: list[str] = []
        """Names of the objects that were read one by one."""
        self.misses: list[str] = []
        """Names of the objects that were to be read and do not exist."""
        self.forbidden: set[str] = set()
        """Names of objects that may not be listed or watched."""

    def watching(self, collection: str) -> int:
        return len(self._watches[collection])

    def apply(self, collection: str, name: str, **fields: Any) -> None:
        kind = "MODIFIED" if name in self.objects[collection] else "ADDED"
        self.version += 1
        meta = {**fields.pop("metadata", {}), "name": name, "resourceVersion": str(self.version)}
        self.objects[collection][name] = {"metadata": meta, **fields}
        self._tell(collection, kind, self.objects[collection][name])

    def delete(self, collection: str, name: str) -> None:
        self.version += 1
        gone = self.objects[collection].pop(name)
        gone["metadata"]["resourceVersion"] = str(self.version)
        self._tell(collection, "DELETED", gone)

    def bookmark(self, collection: str, version: int) -> None:
        self.version = version
        self._tell(collection, "BOOKMARK", {"metadata": {"resourceVersion": str(version)}})

    def expire(self, collection: str) -> None:
        """Tell watches that their version is forgotten."""
        self._tell(collection, "ERROR", {"kind": "Status", "code": 410, "reason": "Expired"})

    def break_off(self, collection: str) -> None:
        for queue in self._watches[collection]:
            queue.put_nowait(None)

    def _tell(self, collection: str, kind: str, item: Any) -> None:
        line = json.dumps({"type": kind, "object": item}).encode() + b"\n"
        if kind in ("ADDED", "MODIFIED", "DELETED"):
            self._history[collection].append((self.version, line))
        for queue in self._watches[collection]:
            queue.put_nowait(line)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.tokens.append(request.headers.get("authorization", ""))
        if self.failing:
            self.failing -= 1
            return web.Response(status=500)
        name = request.path.rpartition("/")[2]
        if request.method == "PATCH":
            assert request.headers["content-type"] == "application/merge-patch+json"
            self.renewals.append((request.path, name, await request.json()))
            return web.json_response({})
        if _selected(request) in self.forbidden:
            return web.Response(status=403)
        if name not in self.objects:
            return self._get(request.path.split("/")[-2], name)
        if "watch" in request.query:
            return await self._watch(request, name)
        self.lists.append(name)
        wanted = _selected(request)
        items = [item for key, item in self.objects[name].items() if wanted in (None, key)]
        return web.json_response(
            {"items": items, "metadata": {"resourceVersion": str(self.version)}}
        )

    def _get(self, collection: str, name: str) -> web.Response:
        found = self.objects[collection].get(name)
        (self.misses if found is None else self.gets).append(name)
        return web.Response(status=404) if found is None else web.json_response(found)

    async def _watch(self, request: web.Request, collection: str) -> web.StreamResponse:
        self.watched_from.append((collection, request.query["resourceVersion"]))
        response = web.StreamResponse()
        await response.prepare(request)
        queue: asyncio.Queue[bytes | None] = _Selecting(_selected(request))
        for version, line in self._history[collection]:
            if version > int(request.query["resourceVersion"]):
                queue.put_nowait(line)
        self._watches[collection].add(queue)
        try:
            while (line := await queue.get()) is not None:
                # NB: in two pieces, as a line that is longer than a packet comes.
                await response.write(line[:20])
                await response.write(line[20:])
        finally:
            self._watches[collection].discard(queue)
        return response


class _Selecting(asyncio.Queue[bytes | None]):
    """Queue of a watch, with the events of one object or of all."""

    def __init__(self, name: str | None) -> None:
        super().__init__()
        self._name = name

    def put_nowait(self, item: bytes | None) -> None:
        if item is None or self._name is None or self._passes(item):
            super().put_nowait(item)

    def _passes(self, line: bytes) -> bool:
        event = json.loads(line)
        return event["type"] in ("BOOKMARK", "ERROR") or (
            event["object"]["metadata"]["name"] == self._name
        )


def _selected(request: web.Request) -> str | None:
    """Return the name that a field selector names; None if there is none."""
    selector = request.query.get("fieldSelector", "")
    return selector.removeprefix("metadata.name=") or None


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[ApiServer]:
    api = ApiServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    api.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield api
    finally:
        await runner.cleanup()
