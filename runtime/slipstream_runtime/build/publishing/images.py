"""Artifacts in a container registry: an ordinary image of one layer, which Kubernetes mounts as a volume.

Kubernetes mounts other kinds of artifacts as an empty folder. The manifest of the image is pushed last.
"""

import hashlib
import io
import json
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import oras.client
import oras.container
import oras.defaults
import requests

from slipstream_runtime import contract
from slipstream_runtime.build import manifest
from slipstream_runtime.build.manifest import Manifest
from slipstream_runtime.build.publishing import place
from slipstream_runtime.errors import EngineError, UnsuitableError
from slipstream_runtime.model_files import network

_IMAGE: Final = "application/vnd.oci.image.manifest.v1+json"
_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
_LABEL: Final = "dev.slipstream.build"
"""Label of the image that holds the manifest of the build."""
_SECONDS: Final = 20.0
"""Seconds for the registry's first answer. The library alone would retry for two minutes."""
_CONFIG_VARIABLE: Final = "DOCKER_CONFIG"
"""Variable of Docker with the folder of its configuration, which the library does not read."""


@dataclass(frozen=True)
class Image:
    """Image by its name in a registry."""

    uri: str
    name: str
    plain_http: bool
    layer: Path

    def existing(self) -> Manifest | None:
        """Return the manifest of the build in the image that has this tag."""
        found = self._image()
        if found is None:
            return None
        config = self._ask("GET", self._container.get_blob_url(found["config"]["digest"]))
        try:
            text = config.json()["config"]["Labels"][_LABEL]
        except (ValueError, LookupError, TypeError) as error:
            raise UnsuitableError(
                f'spec.output: "{self.uri}" can\'t work because it is an image that no build made. Use another tag.'
            ) from error
        return manifest.parse(text, place=self.uri)

    def write(self, folder: Path, made: Manifest, count: place.Count) -> place.Published:
        """Push the artifact."""
        diff, size = pack(folder, made, self.layer)
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Labels": {_LABEL: made.text()}},
                "rootfs": {"type": "layers", "diff_ids": [diff]},
            },
            sort_keys=True,
        ).encode()
        file = self.layer.with_name("config.json")
        file.write_bytes(config)
        entries = {
            "config": _descriptor(_CONFIG, _digest(config), len(config)),
            "layer": _descriptor(_LAYER, diff, size),
        }
        client = self._client()
        try:
            for path, entry in ((file, entries["config"]), (self.layer, entries["layer"])):
                client._check_200_response(client.upload_blob(str(path), self._container, entry))
            image = {
                "schemaVersion": 2,
                "mediaType": _IMAGE,
                "config": entries["config"],
                "layers": [entries["layer"]],
            }
            client._check_200_response(client.upload_manifest(image, self._container))
        except (requests.RequestException, ValueError) as error:
            raise self._explained(error) from error
        count(size)
        return self.published()

    def published(self) -> place.Published:
        """Return the address with the digest of the image."""
        answer = self._ask("GET", self._container.manifest_url(), accept=_IMAGE)
        return place.Published(self.uri, digest=_digest(answer.content))

    @property
    def _container(self) -> Any:
        return oras.container.Container(self.name)

    def _image(self) -> dict[str, Any] | None:
        answer = self._ask("GET", self._container.manifest_url(), accept=_IMAGE, absent=True)
        if answer.status_code == requests.codes.not_found:
            return None
        try:
            found = answer.json()
            found["config"]["digest"]
        except (ValueError, LookupError, TypeError) as error:
            raise UnsuitableError(
                f'spec.output: "{self.uri}" can\'t work because it is an image of several platforms. Use another tag.'
            ) from error
        assert isinstance(found, dict)
        return found

    def _ask(
        self, method: str, address: str, *, accept: str = "*/*", absent: bool = False
    ) -> requests.Response:
        client = self._client()
        try:
            answer: requests.Response = client.do_request(
                f"{client.prefix}://{address}", method, headers={"Accept": accept}
            )
            if not (absent and answer.status_code == requests.codes.not_found):
                client._check_200_response(answer)
        except (requests.RequestException, ValueError) as error:
            raise self._explained(error) from error
        return answer

    def _client(self) -> Any:
        """Return a client with the credentials of the Secret or of the user's Docker configuration."""
        bundle = os.environ.get("SSL_CERT_FILE")
        trusted = bundle if bundle and Path(bundle).is_file() else True
        client = oras.client.OrasClient(insecure=self.plain_http, tls_verify=trusted)
        container = self._container
        address = f"{client.prefix}://{container.registry}/v2/"
        try:
            client.session.get(address, timeout=_SECONDS, verify=trusted)
        except requests.RequestException as error:
            raise self._explained(error) from error
        folder = os.environ.get(_CONFIG_VARIABLE)
        given = Path(folder) / "config.json" if folder else None
        client.auth.load_configs(
            container, configs=[str(given)] if given and given.is_file() else None
        )
        return client

    def _explained(self, error: Exception) -> EngineError:
        """Return the failure without the library's text, which may hold a signed URL."""
        text = str(error)
        if "authentication" in text or "Unauthorized" in text or "Forbidden" in text:
            return EngineError(
                f'spec.output: "{self.uri}": the registry refused the credentials. Name a Secret of type '
                "kubernetes.io/dockerconfigjson that may push there in spec.output.pushSecret, or "
                "run docker login."
            )
        cause = network.cause(error)
        if cause is None and isinstance(error, requests.exceptions.SSLError):
            cause = "it does not speak TLS"
        if cause is None:
            said = (
                text.rpartition(": ")[2][:100]
                if isinstance(error, ValueError)
                else type(error).__name__
            )
            return EngineError(f'spec.output: "{self.uri}": the registry answered: {said}.')
        hint = "" if self.plain_http else " A registry without TLS needs spec.output.plainHttp."
        return EngineError(
            f'spec.output: "{self.uri}": the registry can\'t be reached: {cause}.{hint}'
        )


def pack(folder: Path, made: Manifest, target: Path) -> tuple[str, int]:
    """Write the layer; the same files give the same bytes. Return its digest and its size."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        target.open("wb") as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name in sorted(made.files):
            with (folder / name).open("rb") as content:
                tar.addfile(_member(name, made.files[name].bytes), content)
        text = made.text().encode()
        tar.addfile(_member(contract.BUILD_MANIFEST, len(text)), io.BytesIO(text))
    with target.open("rb") as written:
        digest = hashlib.file_digest(written, "sha256").hexdigest()
        return f"sha256:{digest}", written.tell()


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o644
    return member


def _descriptor(kind: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": kind, "digest": digest, "size": size}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
