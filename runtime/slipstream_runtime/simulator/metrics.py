"""Metrics of a simulated engine: vLLM's names, labels and buckets, from the same events."""

from collections.abc import Callable
from typing import Final

import prometheus_client
from prometheus_client import Counter, Gauge

from slipstream_runtime import contract
from slipstream_runtime.series import ITERATION_BUCKETS, Series
from slipstream_runtime.simulator import model

BLOCK_SIZE: Final = 16
"""Tokens of a KV cache block; vLLM's default."""
CONTENT_TYPE: Final = prometheus_client.CONTENT_TYPE_LATEST

_LENGTH_BUCKETS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class Metrics:
    """Metrics of one engine, in a new registry."""

    def __init__(self, *, model_name: str, kv_tokens: int) -> None:
        self._series = series = Series(model_name)
        self.registry = series.registry
        self._info(kv_tokens)
        self._generated = series.counter(contract.GENERATION_TOKENS)
        self._prompted = series.counter(contract.PROMPT_TOKENS)
        self._cached = series.counter("vllm:prompt_tokens_cached_total")
        sources = ("local_compute", "local_cache_hit", "external_kv_transfer")
        by_source = series.counters("vllm:prompt_tokens_by_source_total", "source", sources)
        self._computed, self._hit = by_source["local_compute"], by_source["local_cache_hit"]
        self._preemptions = series.counter("vllm:num_preemptions_total")
        reasons = ("stop", "length", "abort", "error", "repetition")
        self._success = series.counters(contract.REQUEST_SUCCESS, "finished_reason", reasons)
        latency = contract.LATENCY_BUCKETS
        self._ttft = series.histogram(contract.TTFT, latency[contract.TTFT])
        self._tpot = series.histogram(contract.TPOT, latency[contract.TPOT])
        self._itl = series.histogram(contract.ITL, latency[contract.TPOT])
        self._e2e = series.histogram(contract.E2E, latency[contract.E2E])
        self._queue, self._prefill, self._decode, self._inference = (
            series.histogram(f"vllm:request_{phase}_time_seconds", latency[contract.E2E])
            for phase in ("queue", "prefill", "decode", "inference")
        )
        self._prompt_length = series.histogram("vllm:request_prompt_tokens", _LENGTH_BUCKETS)
        self._output_length = series.histogram("vllm:request_generation_tokens", _LENGTH_BUCKETS)
        self._iteration = series.histogram(contract.ITERATION_TOKENS, ITERATION_BUCKETS)
        self._refused = Counter(
            contract.REFUSED, "Requests refused, by reason.", ("reason",), registry=self.registry
        )

    def watch(self, name: str, read: Callable[[], float]) -> None:
        """Export a gauge whose value is read at each scrape."""
        if name.startswith("vllm:"):
            self._series.gauge(name, read)
        else:
            Gauge(name, name, registry=self.registry).set_function(read)

    def watch_waiting(self, read: Callable[[], float]) -> None:
        """Export the length of the queue, in total and by reason."""
        self.watch(contract.WAITING, read)
        name = f"{contract.WAITING}_by_reason"
        self._series.gauge(name, read, reason="capacity")
        self._series.gauge(name, lambda: 0, reason="deferred")

    def refused(self, reason: str) -> None:
        """Count a refused request."""
        self._refused.labels(reason).inc()

    def step(self, step: model.Step) -> None:
        """Record a finished iteration."""
        self._preemptions.inc(len(step.preempted))
        if not step.tokens:
            return  # NB: like vLLM, an iteration without output records nothing
        computed = sum(request.prompt - request.cached for request in step.first)
        cached = sum(request.cached for request in step.first)
        self._generated.inc(step.tokens)
        self._iteration.observe(computed + step.tokens)
        if computed:
            self._prompted.inc(computed + cached)
            self._computed.inc(computed)
            self._hit.inc(cached)
            self._cached.inc(cached)

    def first_token(self, seconds: float) -> None:
        """Record the seconds from a request's arrival to its first token."""
        self._ttft.observe(seconds)

    def later_token(self, seconds: float) -> None:
        """Record the seconds between two tokens of a request."""
        self._itl.observe(seconds)

    def finished(
        self,
        request: model.Request,
        *,
        reason: str,
        arrived: float,
        admitted: float,
        first: float,
        last: float,
    ) -> None:
        """Record a complete request."""
        self._success[reason].inc()
        self._e2e.observe(last - arrived)
        self._queue.observe(admitted - arrived)
        self._prefill.observe(first - admitted)
        self._decode.observe(last - first)
        self._inference.observe(last - admitted)
        self._tpot.observe((last - first) / max(1, request.output - 1))
        self._prompt_length.observe(request.prompt)
        self._output_length.observe(request.output)

    def render(self) -> bytes:
        """Return the text that Prometheus scrapes."""
        return prometheus_client.generate_latest(self.registry)

    def _info(self, kv_tokens: int) -> None:
        labels = {
            "engine": "0",
            "block_size": str(BLOCK_SIZE),
            "num_gpu_blocks": str(kv_tokens // BLOCK_SIZE),
            "kv_cache_size_tokens": str(kv_tokens),
            "enable_prefix_caching": "False",
        }
        info = Gauge(contract.CACHE_INFO, "Cache sizes.", tuple(labels), registry=self.registry)
        info.labels(**labels).set(1)
