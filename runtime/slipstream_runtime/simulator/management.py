"""Probes, status and metrics of a simulated engine, as an ASGI application on its own port."""

from slipstream_runtime import contract
from slipstream_runtime.recording import answers
from slipstream_runtime.recording.journal import Journal
from slipstream_runtime.recording.metrics import JournalMetrics, StepMetrics
from slipstream_runtime.simulator import lifecycle, metrics, model, pace
from slipstream_runtime.web import asgi


class Management:
    """Management endpoints for the kubelet, Prometheus and the operator."""

    def __init__(
        self,
        *,
        model_name: str,
        engine: model.Engine,
        paced: pace.Pace,
        life: lifecycle.Lifecycle,
        observer: metrics.Metrics,
        journal: Journal,
    ) -> None:
        self._model = model_name
        self._engine = engine
        self._pace = paced
        self._life = life
        self._metrics = observer
        self._journal = journal
        observer.registry.register(JournalMetrics(journal))
        observer.registry.register(StepMetrics([paced.steps]))
        observer.watch(contract.RUNNING, lambda: paced.running)
        observer.watch_waiting(lambda: paced.waiting)
        observer.watch(contract.KV_USAGE, lambda: engine.kv_usage)
        observer.watch(contract.IN_FLIGHT, lambda: life.in_flight)
        observer.watch(contract.SEQUENCES, lambda: engine.parameters.max_sequences)
        observer.watch(contract.DRAINING, lambda: life.leaving)

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        """Answer one request."""
        phase = self._life.phase
        match scope["path"]:
            case contract.LIVE_PATH:
                await asgi.respond(send, b"ok\n")
            case contract.READY_PATH:
                status = 200 if phase is lifecycle.Phase.READY else 503
                await asgi.respond(send, f"{phase.value}\n".encode(), status=status)
            case contract.METRICS_PATH:
                body = self._metrics.render()
                await asgi.respond(send, body, kind=metrics.CONTENT_TYPE)
            case contract.STATUS_PATH:
                await asgi.respond_json(send, self._status())
            case contract.RECORDS_PATH:
                await answers.records(scope, send, self._journal.recorder)
            case _:
                await asgi.respond(send, b"not found\n", status=404)

    def _status(self) -> dict[str, object]:
        return {
            "phase": self._life.phase.value,
            "model": self._model,
            "inFlight": self._life.in_flight,
            "running": self._pace.running,
            "waiting": self._pace.waiting,
            "kvUsage": self._engine.kv_usage,
            "preemptions": self._engine.preemptions,
            "lagSeconds": self._pace.lag,
        }
