"""CPU features of the machine, read once and passed on as values."""

import os
from collections.abc import Set
from pathlib import Path

_FLAG_FIELDS = ("flags", "Features")  # x86, Arm


def parse_cpu_flags(cpuinfo: str) -> frozenset[str]:
    """Return the feature flags of the first processor in a /proc/cpuinfo."""
    for line in cpuinfo.splitlines():
        field, _, value = line.partition(":")
        if field.strip() in _FLAG_FIELDS:
            return frozenset(value.split())
    return frozenset()


def cpu_flags() -> frozenset[str]:
    """Return the feature flags of this machine's CPU; none where there is no /proc/cpuinfo."""
    try:
        return parse_cpu_flags(Path("/proc/cpuinfo").read_text())
    except OSError:
        return frozenset()


def usable_cores() -> int:
    """Return the number of cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def computes_bfloat16(flags: Set[str]) -> bool:
    """Whether the CPU has bf16 instructions; without them, vLLM's bf16 kernels are slower than float32."""
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & flags)


def holds_fp8_kv(flags: Set[str]) -> bool:
    """Whether vLLM's CPU attention can read an FP8 KV cache."""
    return bool({"avx512f", "amx_tile"} & flags)
