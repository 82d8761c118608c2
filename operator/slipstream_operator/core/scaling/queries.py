"""The PromQL of the scaling loop: a constant number of queries, whatever the number of services.

Every engine series carries the target labels `namespace`, `service`, `revision` and `pod`.
"""

from collections.abc import Mapping
from typing import Final

from slipstream_operator.core import objectives
from slipstream_runtime import contract

_POD: Final = "namespace, service, revision, pod"
_OURS: Final = '{service!=""}'
LATENCY: Final = dict(
    zip(objectives.METRICS, (contract.TTFT, contract.TPOT, contract.E2E), strict=True)
)

RUNNING, WAITING, KV_USAGE, AGE = "running", "waiting", "kv", "age"
IN_FLIGHT_MEAN, TOKENS, DRAFTED, ACCEPTED = "in_flight_mean", "tokens", "drafted", "accepted"
KV_TOKENS: Final = "kv_tokens"
ADAPTERS: Final = "adapters"
GAIN: Final = "gain"


def every_tick(*, window: float) -> Mapping[str, str]:
    """Name -> query of what each decision needs; rates over `window` seconds."""
    over = f"[{window:.0f}s]"
    mean = f"avg_over_time({contract.RUNNING}{_OURS}{over}) + avg_over_time({contract.WAITING}{_OURS}{over})"
    # NB: engines don't know of requests that wait in front of them; `or` adds these series, which have other labels.
    queued = f"{contract.QUEUED}{_OURS}"
    return {
        RUNNING: f"sum by ({_POD}) ({contract.RUNNING}{_OURS})",
        WAITING: f"sum by ({_POD}) ({contract.WAITING}{_OURS} or {queued})",
        KV_USAGE: f"max by ({_POD}) ({contract.KV_USAGE}{_OURS})",
        AGE: f"max by ({_POD}) (time() - timestamp({contract.RUNNING}{_OURS}))",
        IN_FLIGHT_MEAN: f"sum by ({_POD}) ({mean} or avg_over_time({queued}{over}))",
        TOKENS: f"sum by ({_POD}) (rate({contract.GENERATION_TOKENS}{_OURS}{over}))",
        DRAFTED: f"sum by (namespace, service, revision) (increase({contract.DRAFT_TOKENS}{_OURS}[10m]))",
        ACCEPTED: f"sum by (namespace, service, revision) (increase({contract.ACCEPTED_TOKENS}{_OURS}[10m]))",
        KV_TOKENS: f"max by (namespace, service, block_size, num_gpu_blocks) ({contract.CACHE_INFO}{_OURS})",
        ADAPTERS: f"min by (namespace, service, {contract.ADAPTER_LABEL}) ({contract.ADAPTER_LOADED}{_OURS})",
        GAIN: f"avg by (namespace, service, revision, {contract.BOUND_LABEL}) ({contract.SPECULATION_GAIN}{_OURS})",
        **{latency(metric, "now"): _buckets(metric, f"{window:.0f}s") for metric in LATENCY},
        **{latency(metric, "5m"): _buckets(metric, "5m") for metric in LATENCY},
    }


def every_minute() -> Mapping[str, str]:
    """Name -> query of what only status shows, over long ranges."""
    return {
        latency(metric, span): _buckets(metric, span) for metric in LATENCY for span in ("1h", "1d")
    }


def latency(metric: str, span: str) -> str:
    """Name of the query for a latency histogram over a span: `now`, `5m`, `1h` or `1d`."""
    return f"{metric}:{span}"


def _buckets(metric: str, span: str) -> str:
    return f"sum by (namespace, service, le) (increase({LATENCY[metric]}_bucket{_OURS}[{span}]))"
