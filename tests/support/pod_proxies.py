"""API server that knows an InferenceService and some pods, and passes on requests to ports of the pods."""

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from slipstream_operator import names

NAMESPACE = "team"
TOKEN = "secret-of-the-user"


@dataclass
class PodProxies:
    """What the API server knows, and what the user may do."""

    services: dict[str, dict[str, Any]] = field(default_factory=dict)
    config_maps: dict[str, dict[str, str]] = field(default_factory=dict)
    routers: dict[str, str | None] = field(default_factory=dict)
    """Name of a pod -> URL of its management port; None for one that can't be reached."""
    engines: dict[str, str] = field(default_factory=dict)
    unready: set[str] = field(default_factory=set)
    forbidden: set[str] = field(default_factory=set)
    """Resources that the user may not use."""

    patches: list[tuple[str, Any]] = field(default_factory=list)
    """Services that were patched, and the changes."""

    async def patch(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/merge-patch+json"
        if "patch" in self.forbidden:
            return _status(403, 'inferenceservices is forbidden: User "dev" cannot patch it')
        name = request.path.rpartition("/")[2]
        self.patches.append((name, await request.json()))
        return web.json_response(self.services[name])

    async def handle(self, request: web.Request) -> web.Response:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return _status(401, "Unauthorized")
        core, team = f"/api/v1/namespaces/{NAMESPACE}", request.path
        infer = f"/apis/{names.API_VERSION}/namespaces/{NAMESPACE}/inferenceservices/"
        for path, kind, objects in (
            (infer, "inferenceservices", self.services),
            (f"{core}/configmaps/", "configmaps", self.config_maps),
        ):
            if team.startswith(path):
                return self._get(kind, team.removeprefix(path), objects)
        if team == f"{core}/pods":
            return self._pods(request.query["labelSelector"])
        if team.startswith(f"{core}/pods/"):
            return await self._proxied(request, team.removeprefix(f"{core}/pods/"))
        return web.Response(status=404, text="404 page not found\n")

    def _get(self, kind: str, name: str, objects: Mapping[str, Any]) -> web.Response:
        if kind in self.forbidden:
            return _status(403, f'{kind} "{name}" is forbidden: User "dev" cannot get it')
        if name not in objects:
            return _status(404, f'{kind} "{name}" not found', details={"name": name})
        found = objects[name]
        return web.json_response({"data": found} if kind == "configmaps" else found)

    def _pods(self, selector: str) -> web.Response:
        if "pods" in self.forbidden:
            return _status(403, 'pods is forbidden: User "dev" cannot list resource "pods"')
        routers = selector == ",".join(f"{k}={v}" for k, v in names.router_selector().items())
        found = self.routers if routers else self.engines
        return web.json_response({"items": [self._pod(name) for name in found]})

    def _pod(self, name: str) -> dict[str, Any]:
        ready = "False" if name in self.unready else "True"
        since = "2026-01-01T00:00:00Z"
        conditions = [{"type": "Ready", "status": ready, "lastTransitionTime": since}]
        return {"metadata": {"name": name}, "status": {"conditions": conditions}}

    async def _proxied(self, request: web.Request, rest: str) -> web.Response:
        if "pods/proxy" in self.forbidden:
            return _status(
                403, 'pods "x" is forbidden: User "dev" cannot get resource "pods/proxy"'
            )
        place, _, path = rest.partition("/proxy")
        name, _, _ = place.partition(":")
        url = {**self.routers, **self.engines}.get(name)
        if url is None:
            return _status(503, "error trying to reach service: dial tcp: i/o timeout")
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{url}{path}", params=request.query) as answer,
        ):
            return web.Response(status=answer.status, body=await answer.read())


def _status(code: int, message: str, **fields: Any) -> web.Response:
    body = {"kind": "Status", "message": message, "code": code, **fields}
    return web.json_response(body, status=code)


@contextlib.asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[PodProxies, Path]]:
    """Run the API server; yield it and a kubeconfig of one of its users."""
    known = PodProxies()
    app = web.Application()
    app.router.add_get("/{path:.*}", known.handle)
    app.router.add_patch("/{path:.*}/inferenceservices/{name}", known.patch)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    _, port = runner.addresses[0][:2]
    file = folder / "kubeconfig"
    file.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "here",
                "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
                "users": [{"name": "dev", "user": {"token": TOKEN}}],
                "contexts": [
                    {
                        "name": "here",
                        "context": {"cluster": "here", "user": "dev", "namespace": NAMESPACE},
                    }
                ],
            }
        )
    )
    try:
        yield known, file
    finally:
        await runner.cleanup()


def service(name: str = "chat", **fields: Any) -> dict[str, Any]:
    spec = {"runtime": "simulator", "slo": {"ttft": {"p95": "500ms"}}}
    body = {"metadata": {"name": name}, "spec": spec, **fields}
    found: dict[str, Any] = json.loads(json.dumps(body))
    return found
