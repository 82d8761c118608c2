"""`python -m benchmarks.borders.fragile PORT`: an engine that answers at once, and dies of the word `die`."""

import asyncio
import json
import os
import sys
from typing import Final

from aiohttp import web

_EVENTS: Final = (
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "a"}}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
)


async def _chat(request: web.Request) -> web.StreamResponse:
    if b'"die"' in await request.read():
        os._exit(1)
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for event in _EVENTS:
        whole = {"id": "1", "object": "chat.completion.chunk", "model": "fragile", **event}
        await response.write(f"data: {json.dumps(whole)}\n\n".encode())
    await response.write(b"data: [DONE]\n\n")
    return response


async def _metrics(_: web.Request) -> web.Response:
    return web.Response(text="vllm:num_requests_running 0\n")


async def _well(_: web.Request) -> web.Response:
    return web.Response(text="ok")


def main() -> None:
    """Serve until the process is ended."""
    app = web.Application(client_max_size=64 * 2**20)
    app.router.add_post("/v1/chat/completions", _chat)
    app.router.add_get("/metrics", _metrics)
    app.router.add_get("/readyz", _well)
    asyncio.set_event_loop(asyncio.new_event_loop())
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)


if __name__ == "__main__":
    main()
