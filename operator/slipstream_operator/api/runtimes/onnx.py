"""Runtime onnx: the rules of the fields that it can't use."""

from slipstream_operator.api.base import rule


def _unless_onnx(expression: str, message: str, *, field_path: str | None = None) -> dict[str, str]:
    """A rule that only services with runtime onnx must keep."""
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
}
"""Field -> why runtime onnx can do nothing with it. CEL cannot see engineArgs, whose values have no one type."""
RULES = (
    *(
        _unless_onnx(
            f"!has(self.{field})",
            f"{field} can't be used with runtime: onnx, which {why}: leave out one of them",
            field_path=f".{field}",
        )
        for field, why in _NOT_WITH_ONNX.items()
    ),
    _unless_onnx(
        "!has(self.model) || (!has(self.model.adapters) && !has(self.model.maxAdapterRank))",
        "model.adapters and model.maxAdapterRank can't be used with runtime: onnx, which loads no LoRA: leave them "
        "out, and merge an adapter into the model before its export",
        field_path=".model",
    ),
    _unless_onnx(
        "!has(self.limits) || !has(self.limits.maxOutputTokens)",
        "limits.maxOutputTokens can't be used with runtime: onnx, which generates no tokens: leave it out, and keep "
        "maxPromptTokens, timeout, concurrency and queue",
        field_path=".limits",
    ),
    _unless_onnx(
        "!has(self.quantization) || ("
        "(!has(self.quantization.method) || self.quantization.method in ['none', 'auto']) && "
        "(!has(self.quantization.kvCache) || self.quantization.kvCache == 'auto'))",
        "quantization can't be used with runtime: onnx, which runs the model as it was exported: "
        "leave it out, and point model.uri at a model that was quantised before its export",
        field_path=".quantization",
    ),
    _unless_onnx(
        "!has(self.slo) || (!has(self.slo.ttft) && !has(self.slo.tpot) && !has(self.slo.throughput))",
        "slo.ttft, slo.tpot and slo.throughput can't be used with runtime: onnx, which generates no tokens: "
        "use slo.e2e, such as {p95: 200ms}",
        field_path=".slo",
    ),
    _unless_onnx(
        "!has(self.cache) || !has(self.cache.prefix)",
        "cache.prefix can't be used with runtime: onnx, which has no KV cache: leave it out",
        field_path=".cache",
    ),
    _unless_onnx(
        "!has(self.cache) || !has(self.cache.offload)",
        "cache.offload can't be used with runtime: onnx, which has no KV cache: leave it out",
        field_path=".cache",
    ),
    _unless_onnx(
        "!has(self.batching) || (!has(self.batching.chunkedPrefill) && !has(self.batching.policy))",
        "batching.chunkedPrefill and batching.policy can't be used with runtime: onnx: leave them out, and keep "
        "maxSequences and maxBatchedTokens",
        field_path=".batching",
    ),
    _unless_onnx(
        "!has(self.model) || !has(self.model.trustRemoteCode) || !self.model.trustRemoteCode",
        "model.trustRemoteCode can't be used with runtime: onnx, which runs no code of a model: leave it out",
        field_path=".model",
    ),
)
