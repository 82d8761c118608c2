"""A stand-in for NVIDIA's driver library, compiled with the answers that it gives."""

import subprocess
from pathlib import Path

_SOURCE = r"""
int cuDriverGetVersion(int *version) { *version = VERSION; return 0; }
int cuInit(unsigned flags) { return CODE; }
int cuDeviceGetCount(int *count) { *count = COUNT; return 0; }
int cuDeviceGet(int *device, int number) { *device = number; return 0; }
int cuDeviceGetName(char *name, int size, int device) {
    const char *given = NAME;
    while ((*name++ = *given++)) {}
    return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? MAJOR : attribute == 76 ? MINOR : -1;
    return 0;
}
"""


def compiled(
    folder: Path,
    *,
    version: int = 13000,
    code: int = 0,
    count: int = 1,
    name: str = "NVIDIA H100 80GB HBM3",
    capability: tuple[int, int] = (9, 0),
) -> Path:
    """Compile libcuda.so.1 into the folder."""
    found = folder / "libcuda.so.1"
    values = {
        "VERSION": version,
        "CODE": code,
        "COUNT": count,
        "NAME": f'"{name}"',
        "MAJOR": capability[0],
        "MINOR": capability[1],
    }
    definitions = [f"-D{key}={value}" for key, value in values.items()]
    command = ["gcc", "-shared", "-fPIC", "-xc", "-", *definitions, "-o", str(found)]
    subprocess.run(command, input=_SOURCE, text=True, check=True)
    return found
