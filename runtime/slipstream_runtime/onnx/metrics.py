"""Metrics of the ONNX engine beside those of every engine: vLLM's names where the meaning is equal, and the provider.

Running, waiting and batches count sequences, of which a request may have many. Latency and success count requests.
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
"""Upper bounds in seconds: vLLM's, and lower ones below its first, 0.3 s, which is long for an encoder."""


class RequestOutcome:
    """Outcome of one request; `reason` is None if the request was refused."""

    def __init__(self) -> None:
        self.reason: str | None = "abort"

    def finished(self) -> None:
        """Record that the client has its answer."""
        self.reason = "stop"


class Metrics:
    """Metrics of one engine, in a new registry."""

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
        """Export this batcher, and the execution providers of its session."""
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
            "1 if the model runs on another execution provider than the first choice.",
            registry=self.registry,
        )
        fell_back.set(providers.fell_back)

    def batch(self, *, tokens: int) -> None:
        """Record the start of a batch."""
        self._batches.observe(tokens)

    def prompted(self, *, tokens: int) -> None:
        """Record the prompt tokens of a request."""
        self._prompted.inc(tokens)

    @contextlib.contextmanager
    def request(self) -> Iterator[RequestOutcome]:
        """Count a request and measure its latency."""
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
