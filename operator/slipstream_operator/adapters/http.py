"""HTTP server of the operator: probes for the kubelet, metrics for Prometheus."""

from collections.abc import Callable

import prometheus_client
from aiohttp import web


async def serve(
    *,
    port: int,
    registry: prometheus_client.CollectorRegistry,
    live: Callable[[], str | None],
    ready: Callable[[], str | None],
) -> web.AppRunner:
    """Start the server; the caller cleans up the runner. `live` and `ready` return a problem, or None."""

    def probe(check: Callable[[], str | None]) -> Callable[[web.Request], object]:
        async def answer(_: web.Request) -> web.Response:
            problem = check()
            return web.Response(status=503 if problem else 200, text=f"{problem or 'ok'}\n")

        return answer

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=prometheus_client.generate_latest(registry),
            headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST},
        )

    app = web.Application()
    app.router.add_get("/livez", probe(live))  # type: ignore[arg-type]
    app.router.add_get("/readyz", probe(ready))  # type: ignore[arg-type]
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host=None, port=port).start()
    return runner
