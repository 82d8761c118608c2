"""Sentences that say why requests took their time, and what to do about it. Pure."""

from typing import Final

from slipstream_simulator.recorded.attribution import Attribution
from slipstream_simulator.recorded.causes import CAUSES

_LEAST: Final = 0.05
"""Share of TTFT or E2E from which a cause gets a sentence."""
_SENTENCES: Final = {
    "queue": (
        "is waiting for a slot: the replicas are full. Raise spec.replicas or scaling.maxReplicas; "
        "--what-if replicas=N says how many help."
    ),
    "wake": (
        "is waiting while no replica serves: the service started from zero, or lost its replicas. "
        "Set scaling.minReplicas to 1, or shorten the start with cache.model."
    ),
    "retry": (
        "went into attempts at replicas that did not answer. Look for restarts and failures: "
        "kubectl describe infer {service}."
    ),
    "router": (
        "is the router's own: reading requests, checking budgets, and waiting for the answer of an "
        "equal request. If it stays high, give the router more CPU (router.resources in the "
        "ServingProfile)."
    ),
    "first": (
        "is the replica's, from getting a request to its first token: the engine's queue, prefill, and "
        "the prefill of others. The engines have no records that tell these apart. Shorter prompts, "
        "prefix caching, more replicas or another batching.maxBatchedTokens help."
    ),
    "engine_queue": (
        "is waiting in the engine, whose batch or KV cache is full. Raise spec.replicas or "
        "scaling.maxReplicas, or lower limits.concurrency so that requests wait in the router, which "
        "sends them to the first free replica."
    ),
    "others_prefill": (
        "is waiting while the engine reads prompts of other requests. A smaller "
        "batching.maxBatchedTokens makes each step shorter, and more replicas share the prompts."
    ),
    "cold_prefix": (
        "is reading parts of prompts that another replica has in its cache. Use routing.strategy: "
        "Prefix, a larger KV cache or cache.offload, and avoid needless restarts."
    ),
    "prefill": (
        "is reading the request's own prompt. Shorter prompts, or prompts with a common beginning and "
        "cache.prefix, quantization or a faster accelerator help."
    ),
    "decode": (
        "is decoding. Fewer output tokens (limits.maxOutputTokens), smaller batches "
        "(batching.maxSequences), quantization or speculation help."
    ),
    "preemption": (
        "was lost by preemption: the KV cache was full. Lower batching.maxSequences, use a KV cache in "
        "fp8 (quantization.kvCache), or raise the replicas."
    ),
    "engine": (
        "is the engine's process outside of its steps: checking requests, templates, tokens, and "
        "sending answers. Give the engine more CPU (resources)."
    ),
    "transfer": (
        "is on the way between router and replica. Look at the network, and at the CPU of the router and "
        "of the engine."
    ),
    "stream": (
        "is the replica's after the first token, without engine records that tell decoding from waiting. "
        "Fewer output tokens (limits.maxOutputTokens), smaller batches (batching.maxSequences), "
        "quantization or speculation help."
    ),
    "client": (
        "is waiting for clients that read their answers slowly. The service can't change it; look at "
        "the clients and their network."
    ),
}


def sentences(found: Attribution, *, service: str) -> list[tuple[str, str]]:
    """Return each cause with a large share and its sentence, the largest share first."""
    shares = [(cause, *found.share(cause)) for cause in CAUSES]
    shares.sort(key=lambda one: -one[2])
    return [
        (cause, f"{share:.0%} of {metric} {_SENTENCES[cause].format(service=service)}")
        for cause, metric, share in shares
        if share >= _LEAST
    ]
