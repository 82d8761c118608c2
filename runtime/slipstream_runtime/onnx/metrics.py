"""Metrics of the ONNX engine beside the front's: vLLM's names where the meaning is equal, and the provider.

Running, waiting and batches count sequences, of which a request may have many; latency and success count requests,
as a client sees them.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import Gauge

from slipstream_runtime import contract
from slipstream_runtime.onnx.batcher import Batcher
from slipstream_runtime.onnx.providers import Providers
from slipstream_runtime.series import ITERATION_BUCKETS, Series
from slipstream_runtime.web.refusal import Refusal

E2E_BUCKETS: Final = (
    0.0025, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, *contract.LATENCY_BUCKETS[contract.E2E],
)  # fmt: skip
"""vLLM's, and finer ones below its first, 0.3 s, which is long for an encoder."""


class RequestOutcome:
    """Outcome of one request; None if the request could not be served."""

    def __init__(self) -> None:
        self.reason: str | None = "abort"

    def finished(self) -> None:
        """The client has its answer."""
        self.reason = "stop"


class Metrics:
    """One engine's metrics in a registry of their own."""

    def __init__(self, model_name: str, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._series = series = Series(model_name)
        self.registry = series.registry
        self._prompted = series.counter(contract.PROMPT_TOKENS)
        self._ended = series.counters(
            contract.REQUEST_SUCCESS, "finished_reason", ("stop", "abort", "error")
        )
        self._e2e = series.histogram(contract.E2E, E2E_BUCKETS)
        self._batches = series.histogram(contract.ITERATION_TOKENS, ITERATION_BUCKETS)

    def watch(self, batcher: Batcher, *, providers: Providers) -> None:
        """Report on this batcher and on where its session runs."""
        self._series.gauge(contract.RUNNING, lambda: batcher.running)
        self._series.gauge(contract.WAITING, lambda: batcher.waiting)
        used = Gauge(
            contract.PROVIDER_INFO,
            "1 for the execution provider that runs the model.",
            ("provider",),
            registry=self.registry,
        )
        used.labels(providers.used[0]).set(1)
        fell_back = Gauge(
            contract.PROVIDER_FALLBACK,
            "1 if the model runs on another execution provider than the one wanted first.",
            registry=self.registry,
        )
        fell_back.set(providers.fell_back)

    def batch(self, *, tokens: int) -> None:
        """A batch starts."""
        self._batches.observe(tokens)

    def prompted(self, *, tokens: int) -> None:
        """The sequences of a request are done."""
        self._prompted.inc(tokens)

    @contextlib.contextmanager
    def request(self) -> Iterator[RequestOutcome]:
        """Count one request and how long it took."""
        started, outcome = self._clock(), RequestOutcome()
        try:
            yield outcome
        except Refusal:
            outcome.reason = None
            raise
        except Exception:
            outcome.reason = "error"
            raise
        finally:
            if outcome.reason is not None:
                self._ended[outcome.reason].inc()
            if outcome.reason == "stop":
                self._e2e.observe(self._clock() - started)
