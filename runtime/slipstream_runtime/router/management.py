"""Probes, metrics and status of the router, on a port that clients can't reach."""

import asyncio
import itertools
from collections.abc import Mapping
from typing import Any, Final, Protocol

import orjson
from aiohttp import web

from slipstream_runtime import contract
from slipstream_runtime.recording.recorder import Recorder
from slipstream_runtime.router import metrics
from slipstream_runtime.router.cluster import routers
from slipstream_runtime.router.cluster.routers import Lending
from slipstream_runtime.router.messages.body_memory import BodyMemory
from slipstream_runtime.router.proxy.listener import Listener

_CONNECTIONS: Final = 512
"""Connections of kubelet, Prometheus, operator and other routers; the one that is idle for longest gives way."""
_MEMORY: Final = 16 * 1024 * 1024
"""Bytes of headers and unread answers of all requests."""
_BODY: Final = 64 * 1024
"""Bytes of a message of another router, which has about 200."""
_BATCH: Final = 100
"""Records that are written at once, in about 1 ms."""


class Observed(Protocol):
    """Router as the management server sees it."""

    @property
    def ready(self) -> bool:
        """Whether the router takes new requests."""
        ...

    def status(self) -> Mapping[str, Any]:
        """Return the state of services and routes, for troubleshooting."""
        ...


class Management:
    """Management endpoints for the kubelet, Prometheus, the operator and other routers."""

    def __init__(
        self,
        router: Observed,
        measured: metrics.Metrics,
        *,
        lending: Lending,
        recorder: Recorder,
    ) -> None:
        self._router = router
        self._metrics = measured
        self._lending = lending
        self._recorder = recorder

    def listener(self) -> Listener:
        """Return the server of these endpoints, with bounds of its own: clients' requests leave them alone."""
        return Listener(
            self.handle,
            memory=BodyMemory(_MEMORY),
            connections=_CONNECTIONS,
            body_bytes=_BODY,
        )

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        match request.path:
            case contract.LIVE_PATH:
                return web.Response(text="ok\n")
            case contract.READY_PATH:
                ready = self._router.ready
                text = "ready\n" if ready else "not ready\n"
                return web.Response(text=text, status=200 if ready else 503)
            case contract.METRICS_PATH:
                body = await self._metrics.render()
                return web.Response(body=body, headers={"content-type": metrics.CONTENT_TYPE})
            case contract.STATUS_PATH:
                body = orjson.dumps(self._router.status())
                return web.Response(body=body, content_type="application/json")
            case contract.RECORDS_PATH:
                return await self._records(request)
            case routers.LEND_PATH | routers.RETURN_PATH if request.method == "POST":
                return self._lent(request, await request.read())
            case _:
                return web.Response(text="not found\n", status=404)

    async def _records(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer with the newest records, one JSON object a line, the newest first."""
        try:
            found = self._recorder.asked(request.query)
        except ValueError as error:
            return web.Response(text=f"{error}\n", status=400)
        response = web.StreamResponse(headers={"content-type": "application/x-ndjson"})
        await response.prepare(request)
        # NB: clients' requests wait for no more than one batch.
        while batch := [*itertools.islice(found, _BATCH)]:
            await response.write(b"".join(orjson.dumps(record) + b"\n" for record in batch))
            await asyncio.sleep(0)
        return response

    def _lent(self, request: web.BaseRequest, body: bytes) -> web.Response:
        """Answer another router."""
        signed = request.headers.get(routers.SIGNATURE, "")
        found = self._lending.answer(request.path, body, signed=signed)
        if found is None:
            return web.Response(text="not a message of a router\n", status=401)
        answer, signature = found
        return web.Response(
            body=answer,
            content_type="application/json",
            headers={routers.SIGNATURE: signature},
        )
