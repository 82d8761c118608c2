"""Services that the contract is checked with: every field, value and method that reaches the engine.

tests/unit/gpu/test_cases.py fails for a field that no case sets: add a case here.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from tests.gpu.hardware import GPUS, Gpu

ANY: Final = "any"
"""Key of `refused` that stands for every GPU."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A service on a model of checkpoints.py."""

    name: str
    model: str
    spec: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """spec of the InferenceService, without model.uri and speculation.draft."""
    draft: str | None = None
    """Model of checkpoints.py that speculation.draft points at."""
    refused: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """GPU -> part of the message with which the engine must refuse the service there."""
    unsuited: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """GPU -> the reason why vLLM starts there and fails with the first request; nothing is checked."""
    family: bool = False
    """Whether it is a row of the table: a model family as most people serve it."""

    @property
    def accelerators(self) -> int:
        """GPUs of one replica."""
        split = self.spec.get("parallelism", {})
        count: int = self.spec.get("accelerator", {}).get("count", 1)
        return max(count, split.get("tensor", 1) * split.get("pipeline", 1) * split.get("data", 1))

    @property
    def gpus(self) -> list[Gpu]:
        """GPUs to check it on; slices of a GPU can't be joined by tensor parallelism."""
        return [
            gpu
            for gpu in GPUS
            if gpu.key not in self.unsuited and (gpu.key != "MIG" or self.accelerators == 1)
        ]

    def refusal(self, gpu: str) -> str | None:
        """Part of the message that is expected instead of a configuration."""
        return self.refused.get(gpu, self.refused.get(ANY))


NO_PREFILL: Final = {"T4": "FlashAttention, which computes MLA's prefill, has no code for it"}


def _on(count: int, **spec: Any) -> dict[str, Any]:
    return {"accelerator": {"count": count}, **spec}


def _quantized(method: str, **more: str) -> dict[str, Any]:
    return {"quantization": {"method": method, **more}}


FAMILIES: Final = (
    Case("Qwen3-8B", "qwen3-8b", family=True),
    Case("Qwen3-8B, method fp8", "qwen3-8b", _quantized("fp8"), family=True),
    Case(
        "Qwen3-8B, kvCache fp8",
        "qwen3-8b",
        _quantized("auto", kvCache="fp8"),
        refused={"T4": "FP8 KV cache is not supported"},
        family=True,
    ),
    Case("Qwen3-8B fp8 by block", "qwen3-8b-fp8-block", _quantized("fp8"), family=True),
    Case("Qwen3-8B W8A8 fp8", "qwen3-8b-w8a8-fp8", family=True),
    Case(
        "Qwen3-8B W8A8 int8",
        "qwen3-8b-w8a8-int8",
        _quantized("int8"),
        refused={"B200": "vLLM has no such kernel for GPUs of compute capability 10.0"},
        family=True,
    ),
    Case("Qwen3-8B W4A16", "qwen3-8b-w4a16", _quantized("int4"), family=True),
    Case("Qwen3-8B AWQ", "qwen3-8b-awq", _quantized("awq"), family=True),
    Case("Qwen3-8B GPTQ", "qwen3-8b-gptq", _quantized("gptq"), family=True),
    Case("Qwen3-8B NVFP4", "qwen3-8b-nvfp4", _quantized("nvfp4"), family=True),
    Case("Qwen3-30B-A3B", "qwen3-30b-a3b", _on(2), family=True),
    Case("Qwen3-30B-A3B, method fp8", "qwen3-30b-a3b", _on(2, **_quantized("fp8")), family=True),
    Case("Qwen3-30B-A3B fp8 by block", "qwen3-30b-a3b-fp8-block", _on(2), family=True),
    Case("Qwen3-30B-A3B NVFP4", "qwen3-30b-a3b-nvfp4", _on(2), family=True),
    Case(
        "gpt-oss-120b",
        "gpt-oss-120b",
        _quantized("mxfp4"),
        refused={"T4": "gpt_oss_mxfp4 is not supported for the current GPU"},
        family=True,
    ),
    Case("DeepSeek-V3", "deepseek-v3", _on(8), unsuited=NO_PREFILL, family=True),
    Case(
        "DeepSeek-V3, kvCache fp8",
        "deepseek-v3",
        _on(8, **_quantized("auto", kvCache="fp8")),
        refused={"A100": "FP8 KV cache is not supported by the Triton MLA backend"},
        unsuited=NO_PREFILL,
        family=True,
    ),
    Case("Qwen3-Next-80B-A3B", "qwen3-next-80b", _on(4), family=True),
    Case("Gemma-3-12B", "gemma3-12b", family=True),
    Case("Llama-3.1-8B", "llama-8b", family=True),
    Case("Llama-3.1-70B", "llama-70b", _on(4), family=True),
    Case("Llama-3.1-405B, method fp8", "llama-405b", _on(8, **_quantized("fp8")), family=True),
    Case(
        "Qwen3-Embedding-8B",
        "qwen3-embedding-8b",
        {"engineArgs": {"runner": "pooling", "convert": "embed"}},
        family=True,
    ),
)

FIELDS: Final = (
    Case(
        "all of model",
        "qwen3-8b",
        {
            "model": {
                "name": "public/name",
                "maxLength": 8192,
                "trustRemoteCode": True,
                "tokenSecret": {"name": "hub", "key": "token"},
                "credentials": {"name": "store"},
                "load": "Streamed",
                "adapters": [
                    {"name": "sql", "uri": "file:///adapters/sql"},
                    {"name": "brief", "uri": "s3://adapters/brief"},
                ],
                "maxAdapterRank": 64,
            },
            "runtime": "vllm",
            "accelerator": {"type": "gpu", "count": 1},
        },
    ),
    Case("method none", "qwen3-8b", _quantized("none")),
    Case(
        "method none of a quantized checkpoint",
        "qwen3-8b-awq",
        _quantized("none"),
        refused={ANY: 'spec.quantization.method: "none" needs an unquantized checkpoint'},
    ),
    Case("tensor", "qwen3-8b", {"model": {"load": "Auto"}, "parallelism": {"tensor": 2}}),
    Case("pipeline", "qwen3-8b", {"parallelism": {"pipeline": 2}}),
    Case("data", "qwen3-8b", {"parallelism": {"data": 2}}),
    Case(
        "data with expert parallelism",
        "deepseek-v3",
        {"parallelism": {"data": 8}, "engineArgs": {"enable-expert-parallel": True}},
        unsuited=NO_PREFILL,
    ),
    Case("nodes", "llama-405b", {"parallelism": {"tensor": 8, "pipeline": 2, "nodes": 2}}),
    Case(
        "draft",
        "qwen3-8b",
        {"speculation": {"tokens": 3, "draftQuantization": "auto"}},
        draft="qwen3-0.6b",
    ),
    Case(
        "draft beside method fp8",
        "qwen3-8b",
        {
            **_quantized("fp8"),
            "speculation": {"disableBelowAcceptance": "30%", "disableBelowGain": "2%"},
        },
        draft="qwen3-0.6b",
    ),
    Case(
        "fp8 draft", "qwen3-8b", {"speculation": {"draftQuantization": "fp8"}}, draft="qwen3-0.6b"
    ),
    Case("draft with tensor parallelism", "qwen3-8b", _on(2, speculation={}), draft="qwen3-0.6b"),
    Case(
        "draft with pipeline parallelism",
        "qwen3-8b",
        {"parallelism": {"pipeline": 2}, "speculation": {}},
        draft="qwen3-0.6b",
    ),
    Case(
        "draft with adapters",
        "qwen3-8b",
        {"model": {"adapters": []}, "speculation": {}},
        draft="qwen3-0.6b",
    ),
    Case("ngram", "qwen3-8b", {"speculation": {"method": "ngram"}}),
    Case(
        "suffix",
        "qwen3-8b",
        {"speculation": {"method": "suffix"}, "template": {"image": "own/image:1"}},
        refused={ANY: 'spec.speculation.method: "suffix" needs arctic-inference'},
    ),
    Case("eagle3", "llama-8b", {"speculation": {"method": "eagle3"}}, draft="llama-8b-eagle3"),
    Case(
        "mtp",
        "deepseek-v3",
        _on(8, speculation={"method": "mtp", "tokens": 1}),
        unsuited=NO_PREFILL,
    ),
    Case("no prefix cache", "qwen3-8b", {"cache": {"prefix": False}}),
    Case("no compilation", "qwen3-8b", {"cache": {"compile": False}}),
    Case(
        "kept caches",
        "qwen3-8b",
        {
            "cache": {
                "compile": True,
                "model": {"claim": {"name": "models"}},
                "responses": {"ttl": "10m", "size": "128Mi"},
            }
        },
    ),
    Case(
        "cache of the node", "qwen3-8b", {"cache": {"model": {"hostPath": {"path": "/var/models"}}}}
    ),
    Case(
        "batching",
        "qwen3-8b",
        {"batching": {"maxSequences": 64, "maxBatchedTokens": 4096, "policy": "priority"}},
    ),
    Case(
        "whole prompts in a step",
        "qwen3-8b",
        {"batching": {"chunkedPrefill": False, "policy": "fcfs"}},
    ),
    Case("sliding window", "gemma3-12b", {"attention": {"slidingWindow": 512}}),
    Case("attention backend", "qwen3-8b", {"attention": {"backend": "TRITON_ATTN"}}),
    Case(
        "limits",
        "qwen3-8b",
        {
            "limits": {
                "maxOutputTokens": 512,
                "maxPromptTokens": 2048,
                "maxAnswers": 64,
                "maxPromptLogprobs": 5,
                "maxMessages": 100,
                "maxTools": 16,
                "maxMedia": 4,
                "timeout": "30s",
                "concurrency": 8,
                "queue": 16,
            }
        },
    ),
    Case(
        "limits without a router",
        "qwen3-8b",
        {"limits": {"queue": 16}, "routing": {"mode": "Direct"}},
    ),
    Case(
        "output by schema",
        "qwen3-8b",
        {"output": {"schema": '{"type": "object"}', "stop": ["END"], "enforce": True}},
    ),
    Case("output by regex", "qwen3-8b", {"output": {"regex": "[0-9]+"}}),
    Case("output by grammar", "qwen3-8b", {"output": {"grammar": 'root ::= "yes" | "no"'}}),
    Case("KV cache in memory", "qwen3-8b", {"cache": {"offload": {"cpu": "20Gi"}}}),
    Case(
        "KV cache on disk",
        "qwen3-8b",
        {"cache": {"offload": {"cpu": "20Gi", "disk": "100Gi"}}},
    ),
    Case("half of a GPU", "qwen3-8b", {"accelerator": {"type": "half"}}),
    Case(
        "parsers",
        "qwen3-8b",
        {
            "model": {
                "toolParser": "hermes",
                "reasoningParser": "qwen3",
                "chatTemplate": "{{ messages }}",
            }
        },
    ),
    Case("engine arguments", "qwen3-8b", {"engineArgs": {"gpu-memory-utilization": 0.5}}),
    Case(
        "times",
        "qwen3-8b",
        {"times": {"start": "20m", "drain": "10m", "hold": "30s", "idle": "5m", "body": "2m"}},
    ),
)

CASES: Final = (*FAMILIES, *FIELDS)
BY_NAME: Final = {case.name: case for case in CASES}
