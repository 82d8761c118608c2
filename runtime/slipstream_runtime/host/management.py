"""Probes, status and metrics: an ASGI application on its own port and event loop.

It never waits for the engine, so it answers while the engine is imported, loads, or hangs.
"""

from typing import Final

from slipstream_runtime import contract
from slipstream_runtime.host.lifecycle import Lifecycle, Phase
from slipstream_runtime.host.metrics import CONTENT_TYPE, Metrics
from slipstream_runtime.host.status import EngineStatus
from slipstream_runtime.recording import answers
from slipstream_runtime.web import asgi

HANGING_SECONDS: Final = 60.0
"""Seconds without a heartbeat, which comes each second, after which the engine's event loop counts as hanging."""


class Management:
    """Management endpoints for the kubelet, Prometheus and the operator."""

    def __init__(
        self,
        *,
        life: Lifecycle,
        metrics: Metrics,
        status: EngineStatus,
    ) -> None:
        self._life = life
        self._metrics = metrics
        self._engine_status = status

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        """Answer one request."""
        life = self._life
        match scope["path"]:
            case contract.LIVE_PATH:
                fault = self.fault()
                await asgi.respond(
                    send, f"{fault or 'ok'}\n".encode(), status=503 if fault else 200
                )
            case contract.READY_PATH:
                await asgi.respond(
                    send, f"{life.phase.value}\n".encode(), status=200 if life.ready else 503
                )
            case contract.METRICS_PATH:
                await asgi.respond(send, self._metrics.render(), kind=CONTENT_TYPE)
            case contract.STATUS_PATH:
                await asgi.respond_json(send, self._status())
            case contract.RECORDS_PATH:
                await answers.records(scope, send, self._metrics.recorder)
            case _:
                await asgi.respond(send, b"not found\n", status=404)

    def fault(self) -> str | None:
        """Return why the process should be restarted; None while it is alive."""
        if self._life.phase is Phase.FAILED:
            return self._life.reason or "failed"
        silent = self._life.silent_seconds()
        if silent > HANGING_SECONDS:
            return f"the event loop has been blocked for {silent:.0f} s"
        return None

    def _status(self) -> dict[str, object]:
        seconds = self._life.seconds()
        return {
            "phase": self._life.phase.value,
            "reason": self._life.reason,
            "phaseSeconds": {phase.value: round(value, 3) for phase, value in seconds.items()},
            "inFlight": self._metrics.in_flight,
            **self._engine_status.as_dict(),
        }
