"""Kubernetes API client of the router: watches collections, and patches Leases."""

import asyncio
import datetime
import os
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Final, Self

import aiohttp
import orjson

from slipstream_runtime import errors, logs

ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_WATCH_SECONDS: Final = 60
"""Seconds of one watch: short, so that a dead connection is noticed soon."""
_SLACK_SECONDS: Final = 15
"""Seconds that the API server gets beyond `_WATCH_SECONDS` to end a watch."""
_REQUEST: Final = aiohttp.ClientTimeout(total=10)
_BACK_OFF: Final = (0.1, 30.0)
"""Shortest and longest pause after a failure, in seconds."""

Manifest = Mapping[str, Any]


class GoneError(Exception):
    """Raised if the resourceVersion of a watch is too old: list again."""


class Cluster:
    """Client of the API server with the permissions of this pod; a context manager."""

    def __init__(
        self, url: str, *, token: Callable[[], str | None], trust: ssl.SSLContext | None = None
    ) -> None:
        self._url = url
        self._token = token
        # NB: each watch holds a connection, and there is one for each Secret, so their number has no limit.
        connector = aiohttp.TCPConnector(limit=0, ssl=trust if trust is not None else True)
        self._session = aiohttp.ClientSession(connector=connector)

    @classmethod
    def of_this_pod(cls, *, folder: Path = ACCOUNT) -> Self:
        """Return a client from the pod's environment; UnsuitableError outside of a pod."""
        try:
            host, port = (os.environ[f"KUBERNETES_SERVICE_{name}"] for name in ("HOST", "PORT"))
        except KeyError as error:
            raise errors.UnsuitableError(
                f"--config-map works only in a pod, because {error} is not set. Use --config and --endpoints."
            ) from None
        host = f"[{host}]" if ":" in host else host
        # NB: the kubelet replaces the token about every hour, so it is read for each of the few requests.
        return cls(
            f"https://{host}:{port}",
            token=lambda: (folder / "token").read_text().strip(),
            trust=ssl.create_default_context(cafile=str(folder / "ca.crt")),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def list(self, path: str, *, query: Mapping[str, str]) -> tuple[list[Manifest], str]:
        """Return all objects of a collection, and their resourceVersion."""
        async with self._session.get(
            self._url + path, params=query, headers=self._headers(), timeout=_REQUEST
        ) as response:
            response.raise_for_status()
            content = orjson.loads(await response.read())
        return content["items"], content["metadata"]["resourceVersion"]

    async def get(self, path: str) -> Manifest:
        """Return one object."""
        async with self._session.get(
            self._url + path, headers=self._headers(), timeout=_REQUEST
        ) as response:
            response.raise_for_status()
            found: Manifest = orjson.loads(await response.read())
        return found

    async def watch(
        self, path: str, *, version: str, query: Mapping[str, str]
    ) -> AsyncIterator[tuple[str, Manifest]]:
        """Yield type and object of each event since a resourceVersion; GoneError if it is too old."""
        parameters = {
            **query,
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(_WATCH_SECONDS),
        }
        timeout = aiohttp.ClientTimeout(total=_WATCH_SECONDS + _SLACK_SECONDS)
        async with self._session.get(
            self._url + path, params=parameters, headers=self._headers(), timeout=timeout
        ) as response:
            if response.status == 410:
                raise GoneError
            response.raise_for_status()
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = orjson.loads(line)
                    if event["type"] == "ERROR":
                        raise GoneError
                    yield event["type"], event["object"]

    async def renew(self, *, namespace: str, lease: str) -> None:
        """Set `spec.renewTime` of a Lease to now."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
        renewed = {"spec": {"renewTime": now.replace("+00:00", "Z")}}
        await self._patch_lease(namespace, lease, renewed)

    async def annotate(self, *, namespace: str, lease: str, annotations: Mapping[str, str]) -> None:
        """Set annotations of a Lease."""
        await self._patch_lease(namespace, lease, {"metadata": {"annotations": annotations}})

    async def _patch_lease(self, namespace: str, lease: str, change: Manifest) -> None:
        path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{lease}"
        body = orjson.dumps(change)
        headers = {**self._headers(), "content-type": "application/merge-patch+json"}
        async with self._session.patch(
            self._url + path, data=body, headers=headers, timeout=_REQUEST
        ) as response:
            response.raise_for_status()

    def _headers(self) -> dict[str, str]:
        token = self._token()
        return {} if token is None else {"authorization": f"Bearer {token}"}


class Mirror:
    """Local copy of a collection; keeps the last state while the API server can't be reached, and calls `failed`."""

    def __init__(
        self,
        cluster: Cluster,
        path: str,
        *,
        changed: Callable[[Mapping[str, Manifest]], None],
        chance: Callable[[], float],
        query: Mapping[str, str] | None = None,
        failed: Callable[[], None] = lambda: None,
    ) -> None:
        self._cluster = cluster
        self._path = path
        self._query = query or {}
        self._changed = changed
        self._failed = failed
        self._chance = chance
        self._objects: dict[str, Manifest] = {}

    async def run(self) -> None:
        """List and watch until cancelled; call `changed` with all objects by name after each change."""
        pause, most = _BACK_OFF
        while True:
            try:
                version = await self._list()
                pause = _BACK_OFF[0]
                while True:
                    version = await self._watch(version)
            except GoneError:
                logs.event("watch restarted", path=self._path)
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError) as error:
                logs.event("watch failed", path=self._path, error=errors.describe(error))
                self._failed()
            await asyncio.sleep(pause * (0.5 + self._chance()))
            pause = min(most, 2 * pause)

    async def _list(self) -> str:
        items, version = await self._cluster.list(self._path, query=self._query)
        self._objects = {item["metadata"]["name"]: item for item in items}
        self._changed(self._objects)
        return version

    async def _watch(self, version: str) -> str:
        async for kind, item in self._cluster.watch(self._path, version=version, query=self._query):
            meta = item["metadata"]
            version = meta["resourceVersion"]
            if kind == "BOOKMARK":
                continue
            if kind == "DELETED":
                self._objects.pop(meta["name"], None)
            else:
                self._objects[meta["name"]] = item
            self._changed(self._objects)
        return version
