"""Precision of weights and caches, by what the processor computes."""

import json
from pathlib import Path

import pytest

from slipstream_runtime.engine import arguments
from slipstream_runtime.engine.checkpoint import Checkpoint
from slipstream_runtime.errors import UnsuitableError
from slipstream_runtime.machine import hardware
from tests.support.engine_configs import AVX2, DRAFT, TARGET, config, line

AVX512 = frozenset({"avx2", "avx512f", "avx512_bf16"})


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        (None, "fp8_per_channel"),
        ((7, 5), "fp8_per_tensor"),
        ((8, 0), "fp8_per_tensor"),
        ((8, 9), "fp8_per_channel"),
        ((9, 0), "fp8_per_channel"),
        ((10, 0), "fp8_per_channel"),
    ],
)
def test_weights_become_fp8_by_channel_where_the_gpu_multiplies_fp8(
    capability: tuple[int, int] | None, expected: str
) -> None:
    wanted = config(
        quantization={"method": "fp8"},
        speculation={"draft": "file:///d", "draftQuantization": "fp8", "tokens": 3},
    )
    words = arguments.build(
        wanted, target=TARGET, draft=DRAFT, cpu_flags=AVX2, capability=capability
    )
    assert words[words.index("--quantization") + 1] == expected
    speculation = json.loads(words[words.index("--speculative-config") + 1])
    assert speculation["quantization"] == expected


def test_a_draft_keeps_the_precision_of_its_checkpoint_unless_the_service_says_otherwise() -> None:
    speculation = {"draft": "file:///d", "tokens": 3}
    bf16 = line(
        config(quantization={"method": "fp8"}, speculation=speculation), kind="none", draft=DRAFT
    )
    assert bf16.count("fp8") == 1
    fp8 = arguments.Weights(Path("/d"), Checkpoint("fp8", "fp8"))
    already = config(speculation={**speculation, "draftQuantization": "fp8"})
    assert "fp8" not in line(already, draft=fp8)


@pytest.mark.parametrize(
    ("device", "dtype", "flags", "expected"),
    [
        ("cpu", "auto", AVX2, "float32"),
        ("cpu", "auto", AVX512, None),
        ("cpu", "bfloat16", AVX2, "bfloat16"),
        ("cuda", "auto", AVX2, None),
    ],
)
def test_bf16_is_left_to_cpus_that_compute_it(
    device: str, dtype: str, flags: frozenset[str], expected: str | None
) -> None:
    words = line(config(device=device, dtype=dtype), flags=flags).split()
    assert ("--dtype" in words) == (expected is not None)
    assert expected is None or words[words.index("--dtype") + 1] == expected


@pytest.mark.parametrize("kind", ["int8", "int4", "fp8", "awq", "gptq"])
def test_quantised_weights_on_a_cpu_have_bf16_activations(kind: str) -> None:
    for flags in (AVX2, AVX512):
        assert "--dtype bfloat16 " in line(config(device="cpu"), kind=kind, flags=flags)


def test_an_fp8_draft_on_a_cpu_has_bf16_activations() -> None:
    speculation = {"draft": "file:///d", "draftQuantization": "fp8", "tokens": 3}
    found = line(config(device="cpu", speculation=speculation), draft=DRAFT)
    assert "--dtype bfloat16 " in found
    assert '"quantization": "fp8_per_channel"' in found


def test_an_fp8_kv_cache_needs_a_cpu_that_can_read_it() -> None:
    wanted = config(device="cpu", quantization={"kvCache": "fp8"})
    assert "--kv-cache-dtype fp8" in line(wanted, flags=AVX512)
    with pytest.raises(
        UnsuitableError, match=r"spec\.quantization\.kvCache: \"fp8\" needs AVX-512"
    ):
        line(wanted, flags=AVX2)


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2\nflags\t\t: other\n", {"fpu", "avx2"}),
        ("processor\t: 0\nFeatures\t: fp bf16\n", {"fp", "bf16"}),
        ("", set()),
    ],
)
def test_cpu_flags_are_read(text: str, flags: set[str]) -> None:
    assert hardware.parse_cpu_flags(text) == flags
