"""Make the CUDA compiler that NVIDIA's wheels bring into an environment usable: `toolkit.py VENV`.

The wheels lack what a compiler's user expects: `lib64`, names for the linker without a version, and
a libcuda to link against. VENV/cuda becomes the CUDA_HOME. The Dockerfile runs this file alone, so
it needs nothing but Python and a C compiler.
"""

import re
import subprocess
import sys
from pathlib import Path

HOME = "cuda"
_LIBRARY = re.compile(r"(lib\w+\.so)\.\d+")


def home(environment: Path) -> Path:
    """The CUDA_HOME of an environment."""
    return environment / HOME


def complete(environment: Path) -> Path:
    """Add what is missing and return the CUDA_HOME; running it again changes nothing."""
    found = sorted(environment.glob("lib/python3.*/site-packages/nvidia/cu*/bin/nvcc"))
    if len(found) != 1:
        raise SystemExit(f"{environment} must hold one nvcc, but holds {len(found)}: {found}")
    root = found[0].parent.parent
    _link(home(environment), root.relative_to(environment))
    _link(root / "lib64", Path("lib"))
    for library in sorted((root / "lib").iterdir()):
        if name := _LIBRARY.fullmatch(library.name):
            _link(library.with_name(name.group(1)), Path(library.name))
    _stub(root / "lib" / "stubs" / "libcuda.so")
    return home(environment)


def _link(link: Path, target: Path) -> None:
    if not link.is_symlink() and not link.exists():
        link.symlink_to(target)


def _stub(library: Path) -> None:
    """Make the library that programs are linked against; the node's driver brings the real one."""
    if library.exists():
        return
    library.parent.mkdir(exist_ok=True)
    command = ["cc", "-shared", "-nostdlib", "-Wl,-soname,libcuda.so.1", "-xc", "/dev/null"]
    subprocess.run([*command, "-o", str(library)], check=True)


if __name__ == "__main__":
    complete(Path(sys.argv[1]))
