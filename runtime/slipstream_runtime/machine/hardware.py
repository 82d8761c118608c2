"""Features of the machine under the engine, read once and passed on as plain values."""

import os
from collections.abc import Set
from pathlib import Path

_FLAG_FIELDS = ("flags", "Features")  # x86, Arm


def parse_cpu_flags(cpuinfo: str) -> frozenset[str]:
    """The feature flags of the first processor of a /proc/cpuinfo."""
    for line in cpuinfo.splitlines():
        field, _, value = line.partition(":")
        if field.strip() in _FLAG_FIELDS:
            return frozenset(value.split())
    return frozenset()


def cpu_flags() -> frozenset[str]:
    """The feature flags of this machine; empty where there is no /proc/cpuinfo."""
    try:
        return parse_cpu_flags(Path("/proc/cpuinfo").read_text())
    except OSError:
        return frozenset()


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def computes_bfloat16(flags: Set[str]) -> bool:
    """Whether bf16 is native; where it is not, vLLM's bf16 kernels are slower than float32 ones."""
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & flags)


def holds_fp8_kv(flags: Set[str]) -> bool:
    """Whether vLLM's CPU attention can read an FP8 KV cache."""
    return bool({"avx512f", "amx_tile"} & flags)
