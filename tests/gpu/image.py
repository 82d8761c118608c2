"""The GPU image as its processes see it: variables of the Dockerfile, over the environment that was built here."""

import re
import string
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dev import paths
from dev.environments import cuda

TARGET: Final = "runtime"
VENV: Final = "/opt/slipstream/venv"
"""Folder of the environment in the image."""
DRIVER: Final = "/usr/local/nvidia/lib64"
"""Folder in which GKE's own device plugin mounts the driver; others put it where every loader looks."""
_BASE: Final = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
_LIBRARIES: Final = {"libcuda.c": "libcuda.so.1", "libnvml.c": "libnvidia-ml.so.1"}


def declared(dockerfile: str, target: str = TARGET) -> dict[str, str]:
    """Return the variables that a target of the Dockerfile and the stages that it builds on set."""
    stages = dict(
        re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", dockerfile, re.MULTILINE | re.DOTALL)
    )
    parents = {
        name: parent
        for parent, name in re.findall(r"^FROM (\S+) AS (\S+)$", dockerfile, re.MULTILINE)
    }
    found = declared(dockerfile, parents[target]) if parents[target] in stages else {}
    body = stages[target].replace("\\\n", " ")
    for line in re.findall(r"^ENV (.*)$", body, re.MULTILINE):
        for name, value in re.findall(r'([A-Z_a-z0-9]+)=("[^"]*"|\S+)', line):
            found[name] = string.Template(value.strip('"')).substitute({**_BASE, **found})
    return found


def variables(driver: Path) -> dict[str, str]:
    """Return the variables of a process in the image, whose driver lies in the folder `driver`."""
    found = declared((paths.REPOSITORY / "Dockerfile").read_text())
    return placed({**_BASE, **found}, environment=cuda.folder(), driver=driver)


def placed(values: Mapping[str, str], *, environment: Path, driver: Path) -> dict[str, str]:
    """Return variables that name the folders of this machine in place of the image's."""
    there = {VENV: str(environment), DRIVER: str(driver)}
    pattern = "|".join(map(re.escape, there))
    return {
        name: re.sub(pattern, lambda match: there[match[0]], value)
        for name, value in values.items()
    }


def install_driver(folder: Path) -> Path:
    """Compile the libraries that stand for NVIDIA's driver, and return their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for source, library in _LIBRARIES.items():
        command = [
            "cc",
            "-shared",
            "-fPIC",
            "-Wall",
            "-Wextra",
            "-Werror",
            f"-Wl,-soname,{library}",
        ]
        path = Path(__file__).parent / source
        subprocess.run([*command, "-o", str(folder / library), str(path)], check=True)
    return folder
