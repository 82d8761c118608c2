"""The Dockerfile's images, built for real on a Debian machine without Docker and without a registry.

The base of the published images is python:3.11-slim. Where no registry can be reached, Debian's own
Python stands in for it: the same release of Debian, the same minor version of Python.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from dev import locks, paths
from dev.errors import DevError

BASE = "docker.io/library/python:3.11-slim"
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
_RELEASE = "bookworm"
_PACKAGES = ("ca-certificates", "python3", "python3-dev", "python3-pip", "python3-venv")
_FINISH = """
set -eu
ln -sf /usr/bin/python3 "$1/usr/local/bin/python"
rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED
cp "$2" "$1/etc/ssl/certs/ca-certificates.crt"
"""
Report = Callable[[str, float], None]


def build(
    target: str, *, report: Report, base: str = BASE, name: str | None = None, pull: bool = False
) -> str:
    """Build one target of the Dockerfile on a base image and return the image's name."""
    for program, package in (("buildah", "buildah"), ("mmdebstrap", "mmdebstrap")):
        if shutil.which(program) is None:
            remedy = f"apt-get install {package}"
            raise DevError(f"building images needs {program}", remedy=remedy)
    name = name or f"localhost/slipstream-{target}:dev"
    with locks.held(_folder()):
        if base == BASE and BASE not in _buildah("images", "--format", "{{.Name}}:{{.Tag}}"):
            _base(report)
        begin = time.monotonic()
        command = ["build", "--pull" if pull else "--pull-never", "--layers", "--target", target]
        command += ["--build-arg", f"PYTHON_IMAGE={base}", "--tag", name]
        _buildah(*command, str(paths.REPOSITORY), log=_folder() / f"{target}.log")
        report(f"build {target}", time.monotonic() - begin)
    return name


def push(name: str, *, plain_http: bool = False) -> str:
    """Push an image and return its digest."""
    with locks.held(_folder()):
        digest = _folder() / "digest"
        verify = f"--tls-verify={'false' if plain_http else 'true'}"
        _buildah("push", verify, "--digestfile", str(digest), name)
        return digest.read_text().strip()


def layers(name: str) -> list[int]:
    """Bytes of each layer, the lowest first."""
    storage = _folder() / "storage"
    images = json.loads((storage / "overlay-images" / "images.json").read_text())
    found = json.loads((storage / "overlay-layers" / "layers.json").read_text())
    by_id = {layer["id"]: layer for layer in found}
    at = next(image["layer"] for image in images if name in image.get("names", ()))
    sizes = []
    while at:
        sizes.append(by_id[at].get("diff-size", 0))
        at = by_id[at].get("parent")
    return sizes[::-1]


def remove() -> None:
    """Remove every image and what was built on the way to it."""
    if _folder().exists():
        with locks.held(_folder()):
            _buildah("rmi", "--all", "--force")
        shutil.rmtree(_folder())


def _folder() -> Path:
    return paths.cache() / "containers"


def _base(report: Report) -> None:
    begin = time.monotonic()
    archive, log = _folder() / "base.tar", _folder() / "base.log"
    include = f"--include={','.join(_PACKAGES)}"
    _run(["mmdebstrap", "--variant=minbase", include, _RELEASE, str(archive)], log=log)
    container = _buildah("from", "scratch").strip()
    try:
        _buildah("add", container, str(archive), "/", log=log)
        root = _buildah("mount", container).strip()
        _run(["sh", "-c", _FINISH, "finish", root, str(AUTHORITIES)], log=log)
        # NB: pip finds the authorities by itself, uv only by this variable.
        variables = ("PATH=/usr/local/bin:/usr/bin:/bin", f"SSL_CERT_FILE={AUTHORITIES}")
        settings = [word for variable in variables for word in ("--env", variable)]
        _buildah("config", *settings, container)
        _buildah("commit", container, BASE, log=log)
    finally:
        _buildah("rm", container)
        archive.unlink(missing_ok=True)
    report("make the base from Debian's packages", time.monotonic() - begin)


def _buildah(*arguments: str, log: Path | None = None) -> str:
    storage = ["--root", str(_folder() / "storage"), "--runroot", str(_folder() / "run")]
    command = ["buildah", *storage, "--storage-driver", "overlay", *arguments]
    return _run(command, log=log or _folder() / "buildah.log")


def _run(command: list[str], *, log: Path) -> str:
    scratch = _folder() / "tmp"
    scratch.mkdir(exist_ok=True)
    # NB: without a daemon, the build's steps are isolated by chroot.
    environment = os.environ | {"BUILDAH_ISOLATION": "chroot", "TMPDIR": str(scratch)}
    with log.open("a") as errors:
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True, check=False
        )
        errors.write(done.stdout)
    if done.returncode != 0:
        raise DevError(f"`{' '.join(command[:12])}` failed", log=log)
    return done.stdout
