"""The machine that a result was measured on, in one line."""

import os
import platform
from pathlib import Path


def describe() -> str:
    """Cores, processor, vector extensions, memory, kernel."""
    text = Path("/proc/cpuinfo").read_text()
    fields = dict(
        (part.strip() for part in line.split(":", 1)) for line in text.splitlines() if ":" in line
    )
    flags = set(fields.get("flags", "").split())
    vectors = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_tile") if name in flags]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores of {fields.get('model name', 'an unknown processor')} "
        f"({', '.join(vectors) or 'no vector extensions'}), {memory:.0f} GiB, "
        f"Linux {platform.release()}, Python {platform.python_version()}"
    )
