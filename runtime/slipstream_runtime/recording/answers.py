"""Answers of an ASGI application with the newest records."""

import asyncio
import itertools
import json
import urllib.parse
from typing import Final

from slipstream_runtime.recording.recorder import Recorder
from slipstream_runtime.web import asgi

_BATCH: Final = 100
"""Records that are written at once, in about 2 ms."""


async def records(scope: asgi.Scope, send: asgi.Send, recorder: Recorder | None) -> None:
    """Answer with one JSON object a line, the newest first."""
    if recorder is None:
        await asgi.respond(send, b"no requests yet\n", status=503)
        return
    query = dict(urllib.parse.parse_qsl(scope.get("query_string", b"").decode("latin-1")))
    try:
        found = recorder.asked(query)
    except ValueError as error:
        await asgi.respond(send, f"{error}\n".encode(), status=400)
        return
    await asgi.start(send, status=200, kind="application/x-ndjson")
    while batch := [*itertools.islice(found, _BATCH)]:
        body = b"".join(json.dumps(record).encode() + b"\n" for record in batch)
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b""})
