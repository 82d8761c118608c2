"""A container registry on this machine, over plain HTTP, which the node of a cluster can pull from."""

import contextlib
import json
import os
import socket
import ssl
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from dev import waiting
from dev.cluster import binaries
from dev.cluster.lifecycle import Cluster
from slipstream_runtime.contract import AUTHORITIES
from slipstream_runtime.web.certificates import CERTIFICATE, PRIVATE_KEY

_PROGRAM = "registry"
_INDEX = "index.json"


@dataclass(frozen=True)
class Registry:
    """A registry, by the name that images in it begin with."""

    address: str

    def push(self, archive: Path, *, name: str, tag: str) -> str:
        """Push the image of an OCI archive; its reference."""
        with tarfile.open(archive) as opened:

            def blob(digest: str) -> bytes:
                member = opened.extractfile(f"blobs/{digest.replace(':', '/')}")
                assert member is not None
                return member.read()

            index = opened.extractfile(_INDEX)
            assert index is not None
            entry = json.loads(index.read())["manifests"][0]
            manifest = blob(entry["digest"])
            parts = json.loads(manifest)
            for part in (parts["config"], *parts["layers"]):
                self.put_blob(blob(part["digest"]), name=name, digest=part["digest"])
        return self.put_manifest(manifest, name=name, tag=tag, media=entry["mediaType"])

    def put_blob(self, content: bytes, *, name: str, digest: str) -> None:
        """Upload one blob."""
        begun = httpx.post(f"http://{self.address}/v2/{name}/blobs/uploads/").raise_for_status()
        where = httpx.URL(begun.headers["Location"]).copy_merge_params({"digest": digest})
        httpx.put(where, content=content).raise_for_status()

    def put_manifest(self, content: bytes, *, name: str, tag: str, media: str) -> str:
        """Upload a manifest whose blobs are there; the image's reference."""
        url = f"http://{self.address}/v2/{name}/manifests/{tag}"
        httpx.put(url, content=content, headers={"Content-Type": media}).raise_for_status()
        return f"{self.address}/{name}:{tag}"


@contextlib.contextmanager
def serve(cluster: Cluster, folder: Path, *, report: binaries.Report) -> Iterator[Registry]:
    """Serve an empty registry until the end of the block, and have the node pull from it."""
    with run(cluster.layout.network.host, folder, report=report) as found:
        _trust(cluster, found.address)
        yield found


@contextlib.contextmanager
def run(
    host: str, folder: Path, *, report: binaries.Report, certificate: Path | None = None
) -> Iterator[Registry]:
    """Serve an empty registry at an address of this machine until the end of the block.

    `certificate` is a folder with a certificate, its key and the authorities, for TLS.
    """
    program = binaries.extra(_PROGRAM, report=report)
    with socket.create_server((host, 0)) as free:
        address = f"{host}:{free.getsockname()[1]}"
    scheme = "http"
    encryption: dict[str, Any] = {}
    trusted: ssl.SSLContext | bool = True
    if certificate is not None:
        scheme, trusted = "https", ssl.create_default_context(cafile=certificate / AUTHORITIES)
        files = {"certificate": CERTIFICATE, "key": PRIVATE_KEY}
        encryption = {"tls": {kind: str(certificate / name) for kind, name in files.items()}}
    config = folder / "registry.yaml"
    config.write_text(
        json.dumps(
            {
                "version": 0.1,
                "log": {"level": "warn"},
                "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
                "http": {"addr": address, **encryption},
            }
        )
    )
    log = folder / "registry.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(program), "serve", str(config)],
            stdout=output,
            stderr=output,
            env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
        )

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{scheme}://{address}/v2/", timeout=10, verify=trusted).is_success
        return False

    try:
        waiting.until(answers, seconds=30, what="the registry", log=log)
        yield Registry(address)
    finally:
        process.terminate()
        process.wait(20)


def _trust(cluster: Cluster, address: str) -> None:
    """Have containerd, which reads this at each pull, use plain HTTP for the address."""
    folder = cluster.layout.folder / "registries" / address
    folder.mkdir(parents=True)
    (folder / "hosts.toml").write_text(
        f'server = "http://{address}"\n[host."http://{address}"]\ncapabilities = ["pull", "resolve"]\n'
    )
