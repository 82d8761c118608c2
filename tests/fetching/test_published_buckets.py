"""Artifacts of builds in a real S3 server: no reader takes a half-written one for a model."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from slipstream_runtime import contract
from slipstream_runtime.build import workspace
from slipstream_runtime.build.manifest import Lineage, Manifest
from slipstream_runtime.build.publishing import buckets as publishing
from slipstream_runtime.build.publishing import place
from slipstream_runtime.build.publishing.buckets import Bucket
from slipstream_runtime.errors import EngineError, UnsuitableError
from slipstream_runtime.model_files import buckets, sources
from tests.support import builds, stores


@pytest.fixture(autouse=True)
def access(store: stores.Store, monkeypatch: pytest.MonkeyPatch) -> stores.Store:
    monkeypatch.setattr(buckets, "_RETRY", {"max_retries": 0})
    store.open_to(monkeypatch)
    return store


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return builds.checkpoint(tmp_path / "made")


def artifact(folder: Path, **changes: Any) -> Manifest:
    plain = {"uri": "hf://a/b", "revision": None, "sha256": "0" * 64, "recipe": {"seed": 0}}
    return Manifest(
        name="tiny",
        lineage=Lineage(**plain | changes),
        files=workspace.entries(folder, workspace.names(folder)),
    )


def target(prefix: str, *, owner: str = "build-1") -> Bucket:
    return Bucket(f"s3://weights/{prefix}", "s3", "weights", prefix, owner)


def keys(store: stores.Store, prefix: str) -> list[str]:
    """Names below the prefix, as the server lists them to anyone."""
    text = httpx.get(f"{store.url}/{store.bucket}", params={"list-type": 2, "prefix": prefix}).text
    return sorted(
        part.partition("<")[0].removeprefix(f"{prefix}/") for part in text.split("<Key>")[1:]
    )


def test_a_published_artifact_is_a_model_that_an_engine_downloads(
    made: Path, tmp_path: Path
) -> None:
    found = artifact(made)
    counted: list[int] = []
    published = place.publish(target("models/tiny"), made, found, counted.append)
    assert published.uri == "s3://weights/models/tiny"
    assert sum(counted) == sum(entry.bytes for entry in found.files.values())
    folder = sources.resolve(sources.parse(published.uri), cache=tmp_path / "cache", token=None)
    assert workspace.entries(folder, found.files) == found.files
    assert (folder / contract.BUILD_MANIFEST).read_text() == found.text()


def test_config_json_and_the_manifest_go_last_so_a_killed_upload_is_no_model(
    made: Path, access: stores.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    real = publishing.obstore.put

    def killed(store: Any, key: str, content: Any, **options: Any) -> Any:
        if key.endswith("config.json"):
            raise Killed
        return real(store, key, content, **options)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(publishing.obstore, "put", killed)
        place.publish(target("killed"), made, artifact(made), lambda _: None)
    assert keys(access, "killed") == [
        ".slipstream-build.part",
        "model.safetensors",
        "tokenizer.json",
    ]
    with pytest.raises(EngineError, match=r"has no config\.json there, so it is not a model"):
        sources.resolve(sources.parse("s3://weights/killed"), cache=tmp_path / "c", token=None)
    with pytest.raises(UnsuitableError, match="objects that this build did not write"):
        target("killed", owner="another").existing()
    place.publish(target("killed"), made, artifact(made), lambda _: None)
    assert keys(access, "killed") == [
        "config.json",
        "model.safetensors",
        contract.BUILD_MANIFEST,
        "tokenizer.json",
    ]


def test_a_build_that_was_killed_after_its_manifest_leaves_no_mark(
    made: Path, access: stores.Store
) -> None:
    place.publish(target("marked"), made, artifact(made), lambda _: None)
    access.put({".slipstream-build.part": b"build-1"}, prefix="marked")
    place.publish(target("marked"), made, artifact(made), lambda _: None)
    assert ".slipstream-build.part" not in keys(access, "marked")


def test_the_same_artifact_is_kept_and_another_build_is_refused(
    made: Path, access: stores.Store
) -> None:
    place.publish(target("kept"), made, artifact(made), lambda _: None)
    counted: list[int] = []
    place.publish(target("kept", owner="again"), made, artifact(made), counted.append)
    assert counted == []
    with pytest.raises(UnsuitableError, match="an artifact of another build: tiny"):
        place.publish(target("kept"), made, artifact(made, uri="hf://c/d"), counted.append)


def test_objects_of_others_are_refused_by_name(made: Path, access: stores.Store) -> None:
    access.put({"model.safetensors": b"mine"}, prefix="foreign")
    with pytest.raises(UnsuitableError, match=r"such as model\.safetensors\. Use an empty prefix"):
        place.publish(target("foreign"), made, artifact(made), lambda _: None)


def test_a_bucket_that_is_missing_or_away_is_reported_with_the_field(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    missing = Bucket("s3://nothing/m", "s3", "nothing", "m", "build-1")
    with pytest.raises(
        EngineError, match=r"^spec\.output: s3://nothing/m: there is no bucket nothing"
    ):
        missing.existing()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://127.0.0.1:9")
    with pytest.raises(EngineError, match=r"^spec\.output: .*the connection was refused"):
        target("away").existing()


def test_refused_credentials_name_the_right_to_write(access: stores.Store) -> None:
    access.check_credentials(after=0)
    try:
        with pytest.raises(EngineError, match="listing, reading and writing") as caught:
            target("refused").existing()
    finally:
        access.check_credentials(after=1_000_000)
    assert "secret" not in caught.value.reason
