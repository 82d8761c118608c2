"""Artifacts in a real registry: an ordinary image, whole or not there."""

import hashlib
import io
import json
import socket
import tarfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from dev.cluster import registry
from dev.cluster.registry import Registry
from slipstream_runtime import contract
from slipstream_runtime.build.recipe import Recipe
from slipstream_runtime.contract import AUTHORITIES
from tests.support import build_processes, builds
from tests.support.certificates import Authority

MEDIA = "application/vnd.oci.image.manifest.v1+json"


def prepared(folder: Path, address: str, *, value: int = 0, **changes: Any) -> Recipe:
    """A build whose steps have finished, and that is to be pushed to the address."""
    output = {"uri": f"oci://{address}", "plainHttp": True}
    return builds.finished(folder, value=value, output=output, **changes)


def blob(images: Registry, name: str, digest: str) -> bytes:
    return httpx.get(f"http://{images.address}/v2/{name}/blobs/{digest}").raise_for_status().content


def manifest(images: Registry, name: str, tag: str) -> httpx.Response:
    url = f"http://{images.address}/v2/{name}/manifests/{tag}"
    return httpx.get(url, headers={"Accept": MEDIA})


def test_an_artifact_is_an_ordinary_image_with_the_files_at_its_root(
    images: Registry, tmp_path: Path
) -> None:
    recipe = prepared(tmp_path, f"{images.address}/team/tiny:1")
    report = build_processes.start(recipe, "publish").report()
    answer = manifest(images, "team/tiny", "1").raise_for_status()
    assert report["digest"] == f"sha256:{hashlib.sha256(answer.content).hexdigest()}"
    image = answer.json()
    assert image["config"]["mediaType"] == "application/vnd.oci.image.config.v1+json"
    (layer,) = image["layers"]
    config = json.loads(blob(images, "team/tiny", image["config"]["digest"]))
    assert config["rootfs"] == {"type": "layers", "diff_ids": [layer["digest"]]}
    content = blob(images, "team/tiny", layer["digest"])
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        members = tar.getmembers()
        assert [one.name for one in members] == [
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            contract.BUILD_MANIFEST,
        ]
        assert {(one.mtime, one.uid, one.mode) for one in members} == {(0, 0, 0o644)}
        weights = tar.extractfile("model.safetensors")
        assert weights is not None
        assert hashlib.sha256(weights.read()).hexdigest() == report["files"]["model.safetensors"]


def test_the_same_artifact_is_kept_by_digest_and_another_one_is_refused(
    images: Registry, tmp_path: Path
) -> None:
    address = f"{images.address}/team/kept:1"
    first = build_processes.start(prepared(tmp_path / "first", address), "publish").report()
    again, differs, other = (
        build_processes.start(prepared(tmp_path / name, address, **changes), "publish")
        for name, changes in (
            ("again", {"uid": "uid-2"}),
            ("differs", {"value": 7}),
            ("other", {"seed": 1}),
        )
    )
    assert again.report()["digest"] == first["digest"]
    code, text = differs.end()
    assert code == 2
    assert "not equal: model.safetensors" in text
    code, text = other.end()
    assert code == 2
    assert "an artifact of another build: tiny, made of hf://org/tiny" in text


def test_an_image_that_no_build_made_is_never_replaced(images: Registry, tmp_path: Path) -> None:
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {}}).encode()
    digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
    images.put_blob(config, name="team/foreign", digest=digest)
    described = {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": digest,
        "size": len(config),
    }
    body = {"schemaVersion": 2, "mediaType": MEDIA, "config": described, "layers": []}
    images.put_manifest(json.dumps(body).encode(), name="team/foreign", tag="1", media=MEDIA)
    before = manifest(images, "team/foreign", "1").content
    recipe = prepared(tmp_path, f"{images.address}/team/foreign:1")
    code, text = build_processes.start(recipe, "publish").end()
    assert (code, "it is an image that no build made. Use another tag" in text) == (2, True)
    assert manifest(images, "team/foreign", "1").content == before


def test_a_company_certificate_is_trusted_by_ssl_cert_file_and_named_as_the_cause_without(
    tmp_path: Path,
) -> None:
    certificate = Authority().fill(tmp_path, "127.0.0.1")
    with registry.run(
        "127.0.0.1", tmp_path, report=lambda *_: None, certificate=certificate
    ) as served:
        recipes = [
            builds.finished(tmp_path / name, output={"uri": f"oci://{served.address}/team/tls:1"})
            for name in ("without", "with")
        ]
        without = build_processes.start(recipes[0], "publish")
        trusting = build_processes.start(
            recipes[1], "publish", SSL_CERT_FILE=str(certificate / AUTHORITIES)
        )
        assert trusting.report()["uri"] == f"oci://{served.address}/team/tls:1"
        code, text = without.end()
        assert code == 1
        assert "certificate verify failed" in text
        assert "SSL_CERT_FILE in spec.template.env" in text


@pytest.mark.parametrize("plain", [True, False])
def test_a_registry_that_cannot_be_reached_is_reported_at_once(
    images: Registry, tmp_path: Path, plain: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    address = address if plain else images.address
    recipe = prepared(tmp_path, f"{address}/team/away:1")
    recipe = recipe.model_copy(
        update={"output": recipe.output.model_copy(update={"plain_http": plain})}
    )
    code, text = build_processes.start(recipe, "publish").end()
    assert code == 1
    assert text.startswith('spec.output: "oci://')
    assert "the registry can't be reached" in text
    assert ("plainHttp" in text) is not plain
