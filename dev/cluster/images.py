"""Images of the local cluster, built from the working tree and from the built programs.

An image's tag is a hash of its content: changed code is a new tag, and a Deployment that names it
rolls out by itself. Archives are cached under the same hash.
"""

import hashlib
import importlib.util
import py_compile
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from dev import locks, paths, processes
from dev.cluster import oci
from dev.cluster.layout import Layout
from dev.errors import DevError

USER = 65532
_PREFIX = "localhost/slipstream"
_PASSWD = f"root:x:0:0::/root:/sbin/nologin\nslipstream:x:{USER}:{USER}::/tmp:/sbin/nologin\n"
_GROUP = f"root:x:0:\nslipstream:x:{USER}:\n"
_ENVIRONMENT = {
    "PATH": "/opt/slipstream/venv/bin:/usr/bin:/bin",
    "PYTHONPATH": "/app/operator:/app/runtime",
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "HOME": "/tmp",
}


@dataclass(frozen=True)
class Image:
    """Image: its name with the tag, and its archive."""

    name: str
    archive: Path


def addons(binaries: Path) -> list[Image]:
    """Build the images of the cluster's own programs; their folder is named by a hash of their pins."""
    return [program(binaries / name) for name in ("pause", "coredns", "prometheus")]


def program(binary: Path) -> Image:
    """Return an image of one static program, tagged with the hash in its folder's name."""
    name = binary.name
    config = {"User": str(USER), "WorkingDir": "/", "Entrypoint": [f"/bin/{name}"]}

    def layers() -> list[oci.Layer]:
        layer = oci.Layer()
        layer.add(f"/bin/{name}", binary.read_bytes(), mode=0o755)
        return [_skeleton(), layer]

    return _image(name, content=binary.parent.name, config=config, layers=layers)


def application(tree: Path = paths.REPOSITORY) -> dict[str, Image]:
    """Return the operator's and the runtime's image of a tree, by short name.

    The runtime's holds no operator code, so a change of the operator restarts no model.
    """
    plans = {
        "operator": (["operator", "runtime"], "slipstream_operator"),
        "runtime": (["runtime"], "slipstream_runtime.engine"),
    }
    return {
        name: _of_tree(tree, name, roots, module, environment=_ENVIRONMENT)
        for name, (roots, module) in plans.items()
    }


def builder(tree: Path = paths.REPOSITORY) -> Image:
    """Return the image of the steps of a ModelBuild, of a tree."""
    environment = {**_ENVIRONMENT, "PATH": "/opt/slipstream/builder/bin:/usr/bin:/bin"}
    module = "slipstream_runtime.build"
    return _of_tree(tree, "builder", ["runtime"], module, environment=environment)


def _of_tree(
    tree: Path,
    name: str,
    roots: Sequence[str],
    module: str,
    *,
    environment: Mapping[str, str],
) -> Image:
    """Return an image of the sources below these folders of a tree."""
    config = {
        "User": str(USER),
        "WorkingDir": "/app",
        "Env": [f"{key}={value}" for key, value in environment.items()],
        "Entrypoint": ["python", "-m", module],
    }
    sources = {f"/app/{file.relative_to(tree)}": file for file in _files(tree, roots)}

    def layers() -> list[oci.Layer]:
        return [_skeleton(), _userland(), _compiled(sources)]

    return _image(name, content=_digest(sources), config=config, layers=layers)


def load(images: Sequence[Image], *, layout: Layout) -> None:
    """Import the archives in parallel, pinned so that the kubelet never removes them."""

    def present() -> set[str]:
        return set(processes.run([*ctr, "images", "list", "--quiet"]).split())

    def one(image: Image) -> None:
        pin = ["--label", "io.cri-containerd.pinned=pinned"]
        processes.run([*ctr, "images", "import", *pin, str(image.archive)])

    socket = str(layout.containerd_socket)
    ctr = [str(layout.binaries / "ctr"), "--address", socket, "--namespace", "k8s.io"]
    there = present()
    with ThreadPoolExecutor() as pool:
        list(pool.map(one, [image for image in images if image.name not in there]))


def _image(
    short: str,
    *,
    content: str,
    config: Mapping[str, object],
    layers: Callable[[], Sequence[oci.Layer]],
) -> Image:
    """Write the archive unless the cache has it already."""
    recipe = repr((content, config, _skeleton(), _userland(), sys.version))
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:12]
    name = f"{_PREFIX}/{short}:{digest}"
    folder = paths.cache() / "images"
    image = Image(name=name, archive=folder / f"{short}-{digest}.tar")
    if not image.archive.exists():
        with locks.held(folder):
            oci.write(image.archive, name=name, layers=layers(), config=config)
    return image


def _skeleton() -> oci.Layer:
    """Return the layer that any program expects of a root file system."""
    layer = oci.Layer(folders={"/tmp": 0o1777, "/run": 0o755, "/home": 0o755})
    layer.add("/etc/passwd", _PASSWD.encode())
    layer.add("/etc/group", _GROUP.encode())
    layer.add("/etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\n")
    layer.add("/etc/resolv.conf", b"")
    authorities = Path("/etc/ssl/certs/ca-certificates.crt")
    if authorities.exists():
        layer.add(str(authorities), authorities.read_bytes())
    return layer


def _userland() -> oci.Layer:
    """Return the layer that makes the machine's /usr, mounted by the runtime handler, usable in a container."""
    merged = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
    links = {f"/{name}": f"usr/{name}" for name in merged if Path("/usr", name).exists()}
    layer = oci.Layer(links=links, folders={"/usr": 0o755})
    layer.add("/etc/ld.so.cache", Path("/etc/ld.so.cache").read_bytes())
    return layer


def _files(tree: Path, roots: Sequence[str]) -> list[Path]:
    """Return the files under the roots, without caches."""
    found = []
    for root in roots:
        for file in sorted((tree / root).rglob("*")):
            parts = file.relative_to(tree).parts
            hidden = any(part.startswith(".") or part == "__pycache__" for part in parts)
            if file.is_file() and not hidden and not any(p.endswith(".egg-info") for p in parts):
                found.append(file)
    return found


def _digest(sources: Mapping[str, Path]) -> str:
    digest = hashlib.sha256()
    for target, file in sources.items():
        digest.update(f"{target}\0{file.stat().st_size}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def _compiled(sources: Mapping[str, Path]) -> oci.Layer:
    """Return the layer of the sources and their bytecode, which a read-only root could not cache."""
    layer = oci.Layer()
    with tempfile.TemporaryDirectory() as scratch:
        bytecode = Path(scratch) / "bytecode"
        for target, file in sources.items():
            layer.add(target, file.read_bytes())
            if file.suffix != ".py":
                continue
            try:
                py_compile.compile(
                    str(file),
                    cfile=str(bytecode),
                    dfile=target,
                    doraise=True,
                    invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
                )
            except py_compile.PyCompileError as error:
                raise DevError(f"{file} does not compile: {error.msg}") from error
            layer.add(importlib.util.cache_from_source(target), bytecode.read_bytes())
    return layer
