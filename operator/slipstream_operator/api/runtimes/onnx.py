"""Runtime onnx: rules for the fields that it can't use."""

from slipstream_operator.api.base import rule


def _unless_onnx(expression: str, message: str, *, field_path: str | None = None) -> dict[str, str]:
    """Return a rule that applies only to services with runtime: onnx."""
    return rule(
        f"!has(self.runtime) || self.runtime != 'onnx' || ({expression})",
        message=message,
        field_path=field_path,
    )


_NOT_WITH_ONNX = {
    "speculation": "generates no tokens",
    "output": "generates no tokens",
    "attention": "computes attention as the model was exported",
    "parallelism": "runs a replica on one accelerator",
    "engine": "has no vLLM",
}
"""Field -> reason why runtime: onnx can't use it. CEL can't read engineArgs because its values have no single type."""
RULES = (
    *(
        _unless_onnx(
            f"!has(self.{field})",
            f"{field} can't be used with runtime: onnx, which {why}. Leave out one of them.",
            field_path=f".{field}",
        )
        for field, why in _NOT_WITH_ONNX.items()
    ),
    _unless_onnx(
        "!has(self.model) || (!has(self.model.adapters) && !has(self.model.maxAdapterRank))",
        "model.adapters and model.maxAdapterRank can't be used with runtime: onnx, which loads no LoRA adapters. "
        "Leave them out, and merge an adapter into the model before its export.",
        field_path=".model",
    ),
    _unless_onnx(
        "!has(self.limits) || !["
        "has(self.limits.maxOutputTokens), has(self.limits.maxAnswers), has(self.limits.maxPromptLogprobs), "
        "has(self.limits.maxMessages), has(self.limits.maxTools), has(self.limits.maxMedia)"
        "].exists(used, used)",
        "limits.maxOutputTokens, maxAnswers, maxPromptLogprobs, maxMessages, maxTools and maxMedia can't be used "
        "with runtime: onnx, which takes no chats and generates no tokens. Leave them out. "
        "maxPromptTokens, timeout, concurrency and queue can be used.",
        field_path=".limits",
    ),
    _unless_onnx(
        "!has(self.quantization) || ("
        "(!has(self.quantization.method) || self.quantization.method in ['none', 'auto']) && "
        "(!has(self.quantization.kvCache) || self.quantization.kvCache == 'auto'))",
        "quantization can't be used with runtime: onnx, which runs the model as exported. Leave it out, and set "
        "model.uri to a model that was quantized before its export.",
        field_path=".quantization",
    ),
    _unless_onnx(
        "!has(self.slo) || (!has(self.slo.ttft) && !has(self.slo.tpot) && !has(self.slo.throughput))",
        "slo.ttft, slo.tpot and slo.throughput can't be used with runtime: onnx, which generates no tokens. Use "
        "slo.e2e, such as {p95: 200ms}.",
        field_path=".slo",
    ),
    _unless_onnx(
        "!has(self.cache) || !has(self.cache.prefix)",
        "cache.prefix can't be used with runtime: onnx, which has no KV cache. Leave it out.",
        field_path=".cache",
    ),
    _unless_onnx(
        "!has(self.cache) || !has(self.cache.offload)",
        "cache.offload can't be used with runtime: onnx, which has no KV cache. Leave it out.",
        field_path=".cache",
    ),
    _unless_onnx(
        "!has(self.batching) || (!has(self.batching.chunkedPrefill) && !has(self.batching.policy))",
        "batching.chunkedPrefill and batching.policy can't be used with runtime: onnx, which has its own "
        "batching. Leave them out. maxSequences and maxBatchedTokens can be used.",
        field_path=".batching",
    ),
    _unless_onnx(
        "!has(self.model) || !has(self.model.trustRemoteCode) || !self.model.trustRemoteCode",
        "model.trustRemoteCode can't be used with runtime: onnx, which runs no code of a model. Leave it out.",
        field_path=".model",
    ),
)
