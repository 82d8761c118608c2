"""Combinations that vLLM refuses at start are refused before it starts: one case for each row of the table."""

from typing import Any

import pytest

from slipstream_operator.core import combinations
from slipstream_operator.core.combinations import Settings
from slipstream_operator.core.devices import CPU
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from tests.support import given

CASES: list[tuple[Settings, str]] = [
    (
        Settings(max_batched_tokens=64, max_sequences=128),
        "spec.batching.maxBatchedTokens: 64 can't be less than maxSequences (128)",
    ),
    (
        Settings(max_batched_tokens=512, max_length=4096, chunked_prefill=False),
        "spec.batching.chunkedPrefill: false needs a maxBatchedTokens (512) of at least spec.model.maxLength (4096)",
    ),
    (
        Settings(
            adapter_slots=4, method="ngram", tokens=4, max_sequences=128, max_batched_tokens=512
        ),
        "spec.speculation.tokens: 4 with spec.model.adapters needs a batching.maxBatchedTokens (512)",
    ),
    (
        Settings(device=CPU, kv_cache="fp8"),
        'spec.quantization.kvCache: "fp8" can\'t work because it needs AVX-512',
    ),
    (
        Settings(device=CPU, quantization="nvfp4"),
        'spec.quantization.method: "nvfp4" can\'t work because vLLM has no NVFP4 kernel for type cpu',
    ),
    (Settings(method="suffix"), 'spec.speculation.method: "suffix" needs arctic-inference'),
    (
        Settings(method="suffix", own_image=True, ways=2, stages=2),
        'spec.speculation.method: "suffix" does not work with spec.parallelism.pipeline',
    ),
    (
        Settings(device=CPU, ways=2),
        "spec.parallelism: 2 ways can't work because an engine on type cpu is one process",
    ),
    (
        Settings(device=CPU, backend="FLASHINFER"),
        'spec.attention.backend: "FLASHINFER" does not run on CPUs',
    ),
    (
        Settings(method="ngram", arguments={"async-scheduling": True}),
        "spec.engineArgs.async-scheduling: true does not work with spec.speculation.method ngram",
    ),
    (
        Settings(method="draft_model", arguments={"logits-processors": ["a.B"]}),
        "spec.engineArgs.logits-processors: does not work with spec.speculation",
    ),
    (
        Settings(device=CPU, arguments={"kv-offloading-size": 4.0}),
        "spec.engineArgs.kv-offloading-size: can't work because on type cpu the KV cache",
    ),
    (
        Settings(device=CPU, arguments={"enable-eplb": True, "enable-expert-parallel": True}),
        "spec.engineArgs.enable-eplb: true can't work because vLLM does not balance experts on type cpu",
    ),
    (
        Settings(ways=2, arguments={"enable-eplb": True}),
        "spec.engineArgs.enable-eplb: true needs enable-expert-parallel: true",
    ),
    (
        Settings(arguments={"enable-eplb": True, "enable-expert-parallel": True}),
        "spec.engineArgs.enable-eplb: true needs more than one accelerator",
    ),
    (
        Settings(arguments={"enable-auto-tool-choice": True}),
        "spec.engineArgs.enable-auto-tool-choice: true needs a parser",
    ),
    (
        Settings(max_sequences=8, arguments={"max-num-active-seqs": 9}),
        "spec.engineArgs.max-num-active-seqs: can't be more than maxSequences (8)",
    ),
    (
        Settings(max_length=1024, arguments={"long-prefill-token-threshold": 2048}),
        "spec.engineArgs.long-prefill-token-threshold: can't be more than spec.model.maxLength (1024)",
    ),
    (
        Settings(adapter_slots=4, arguments={"max-cpu-loras": 2}),
        "spec.engineArgs.max-cpu-loras: can't be less than the 4 adapter slots of spec.model.adapters",
    ),
]


@pytest.mark.parametrize(("asked", "message"), CASES, ids=[message for _, message in CASES])
def test_a_combination_that_cannot_work_is_refused_with_reason_and_remedy(
    asked: Settings, message: str
) -> None:
    with pytest.raises(PermanentError) as refusal:
        combinations.check(asked)
    assert refusal.value.reason == Reason.UNSUPPORTED
    assert refusal.value.message.startswith(message)
    assert ". " in refusal.value.message[len(message) - 1 :]
    assert refusal.value.message.endswith(".")


def test_every_row_has_its_case() -> None:
    rows = [[row for row in combinations.TABLE if row.refusal(asked)] for asked, _ in CASES]
    assert rows == [[row] for row in combinations.TABLE]


@pytest.mark.parametrize(
    "asked",
    [
        Settings(),
        Settings(max_batched_tokens=128, max_sequences=128),
        Settings(max_batched_tokens=512, max_length=4096),
        Settings(max_length=4096, chunked_prefill=False),
        Settings(method="suffix", own_image=True, ways=2),
        Settings(method="ngram", ways=2, stages=2),
        Settings(device=CPU, backend="CPU_ATTN"),
        Settings(device=CPU, method="eagle3", tokens=3),
        Settings(method="draft_model", ways=8, arguments={"async-scheduling": True}),
        Settings(method="ngram", arguments={"async-scheduling": False}),
        Settings(ways=2, arguments={"enable-eplb": True, "enable-expert-parallel": True}),
        Settings(adapter_slots=4, arguments={"max-cpu-loras": 4}),
    ],
)
def test_what_vllm_takes_is_taken(asked: Settings) -> None:
    combinations.check(asked)


SPEC: dict[str, Any] = {"model": {**given.MODEL, "maxLength": 4096}}


@pytest.mark.parametrize(
    "spec",
    [
        {**SPEC, "batching": {"maxSequences": 128, "maxBatchedTokens": 64}},
        {**SPEC, "batching": {"maxSequences": 128}, "engineArgs": {"max-num-batched-tokens": 64}},
        {**SPEC, "engineArgs": {"max-num-seqs": 128, "max-num-batched-tokens": "64"}},
        {**SPEC, "batching": {"maxBatchedTokens": 512, "chunkedPrefill": False}},
        {
            **SPEC,
            "batching": {"maxBatchedTokens": 512},
            "engineArgs": {"enable-chunked-prefill": False},
        },
        {**SPEC, "accelerator": {"type": "cpu"}, "engineArgs": {"kv-cache-dtype": "fp8_e5m2"}},
        {**SPEC, "accelerator": {"type": "cpu"}, "engineArgs": {"attention-backend": "FLASHINFER"}},
        {**SPEC, "accelerator": {"type": "cpu"}, "parallelism": {"tensor": 2}},
        {**SPEC, "speculation": {"method": "suffix"}},
    ],
)
def test_it_does_not_matter_where_a_setting_is_written(spec: dict[str, Any]) -> None:
    with pytest.raises(PermanentError) as refusal:
        given.resolved(spec)
    assert refusal.value.reason == Reason.UNSUPPORTED
