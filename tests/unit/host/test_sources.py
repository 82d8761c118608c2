"""From a model's URI to a folder, and what is said when there is none."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import errors as hub_errors

from slipstream_runtime.errors import EngineError, UnsuitableError
from slipstream_runtime.model_files import hub, locks, records, sources

CLAIMS = Path("/mnt/models")


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///opt/m", "/opt/m"),
        ("pvc://weights/a/b", "/mnt/models/weights/a/b"),
        ("pvc://weights", "/mnt/models/weights"),
    ],
)
def test_local_uris_are_folders(uri: str, path: str) -> None:
    source = sources.parse(uri, claims=CLAIMS)
    assert source.path == Path(path)
    assert source.local


@pytest.mark.parametrize(
    ("uri", "repository", "revision"),
    [
        ("hf://org/name", "org/name", None),
        ("hf://gpt2", "gpt2", None),
        ("hf://gpt2@main", "gpt2", "main"),
        ("hf://org/name@main", "org/name", "main"),
        ("hf://org/name@refs/pr/1", "org/name", "refs/pr/1"),
    ],
)
def test_hub_uris_are_repositories(uri: str, repository: str, revision: str | None) -> None:
    source = sources.parse(uri, claims=CLAIMS)
    assert (source.repository, source.revision) == (repository, revision)
    assert not source.local


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "/m",
        "m",
        "file://m",
        "s3://",
        "oci://",
        "hf://",
        "hf://a/b/c",
        "pvc://",
        "hf://a/b@",
    ],
)
def test_other_uris_are_refused_by_name(uri: str) -> None:
    with pytest.raises(UnsuitableError, match=r"spec\.model\.uri"):
        sources.parse(uri, claims=CLAIMS)


def test_a_claim_cannot_be_left() -> None:
    with pytest.raises(UnsuitableError, match="points outside its claim"):
        sources.parse("pvc://weights/../../etc", claims=CLAIMS)


def test_a_missing_folder_is_told_with_its_uri_and_may_heal(tmp_path: Path) -> None:
    source = sources.parse("pvc://weights/m", claims=tmp_path)
    with pytest.raises(EngineError) as caught:
        sources.resolve(source, cache=tmp_path, token=None)
    assert caught.value.reason == (
        f"pvc://weights/m: there is no folder {tmp_path}/weights/m in claim weights."
    )
    assert caught.value.exit_code == 1


def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    source = sources.parse(f"file://{tmp_path}", claims=CLAIMS)
    with pytest.raises(EngineError, match=r"has no config\.json"):
        sources.resolve(source, cache=tmp_path, token=None)


def test_a_model_is_found(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    source = sources.parse(f"file://{tmp_path}", claims=CLAIMS)
    assert sources.resolve(source, cache=tmp_path, token=None) == tmp_path


def test_a_model_in_mistrals_format_is_found(tmp_path: Path) -> None:
    (tmp_path / "params.json").write_text("{}")
    (tmp_path / "consolidated.safetensors").write_bytes(bytes(2048))
    source = sources.parse(f"file://{tmp_path}", claims=CLAIMS)
    assert sources.resolve(source, cache=tmp_path, token=None) == tmp_path
    with pytest.raises(EngineError, match=r"has no adapter_config\.json, so it is not an adapter"):
        sources.resolve(source, cache=tmp_path, token=None, holds="adapter_config.json")


def response(status: int) -> Any:
    request = SimpleNamespace(method="GET", url="https://hub/x")
    return SimpleNamespace(status_code=status, headers={}, request=request)


@pytest.mark.parametrize(
    ("error", "has_token", "reason"),
    [
        (
            hub_errors.GatedRepoError("", response=response(403)),
            False,
            "Set spec.model.tokenSecret",
        ),
        (hub_errors.GatedRepoError("", response=response(403)), True, "is gated for the token"),
        (hub_errors.RepositoryNotFoundError("", response=response(404)), True, "does not exist"),
        (hub_errors.RevisionNotFoundError("", response=response(404)), True, "no revision v9"),
        (hub_errors.HfHubHTTPError("", response=response(401)), True, "was refused (401)"),
        (hub_errors.HfHubHTTPError("", response=response(503)), True, "the hub answered 503"),
        (hub_errors.LocalEntryNotFoundError("x"), True, "can't be reached"),
        (ConnectionError("x"), True, "can't be reached: ConnectionError"),
        (OSError(28, "No space left on device"), True, "the download stopped: the disk is full"),
    ],
)
def test_failures_of_the_hub_are_told_in_terms_of_the_service(
    error: Exception, has_token: bool, reason: str
) -> None:
    told = hub.explain(error, uri="hf://o/n", revision="v9", has_token=has_token)
    assert told.startswith("hf://o/n: ")
    assert reason in told


@pytest.mark.parametrize(
    ("uri", "bucket", "prefix"),
    [
        ("s3://weights/chat/8b", "weights", "chat/8b"),
        ("s3://weights/chat/", "weights", "chat"),
        ("gs://weights", "weights", ""),
    ],
)
def test_bucket_uris_are_prefixes(uri: str, bucket: str, prefix: str) -> None:
    source = sources.parse(uri, claims=CLAIMS)
    assert (source.kind, source.bucket, source.prefix) == (uri[:2], bucket, prefix)
    assert source.remote


def image(tmp_path: Path) -> tuple[sources.Source, Path]:
    source = sources.parse("oci://registry.local/m:1", images=tmp_path)
    assert source.path is not None
    return source, source.path


@pytest.mark.parametrize("folder", ["", "models"])
def test_a_model_is_found_at_the_root_of_its_image_or_in_models(
    tmp_path: Path, folder: str
) -> None:
    source, mounted = image(tmp_path)
    (mounted / folder).mkdir(parents=True)
    (mounted / folder / "config.json").write_text("{}")
    assert sources.resolve(source, cache=tmp_path, token=None) == mounted / folder


def test_an_artifact_that_is_mounted_as_an_empty_folder_is_reported(tmp_path: Path) -> None:
    source, mounted = image(tmp_path)
    mounted.mkdir()
    with pytest.raises(EngineError, match=r"the image is empty. It must be an ordinary container"):
        sources.resolve(source, cache=tmp_path, token=None)


def test_an_image_without_a_model_is_reported(tmp_path: Path) -> None:
    source, mounted = image(tmp_path)
    (mounted / "bin").mkdir(parents=True)
    with pytest.raises(EngineError, match=r"the image has no config\.json"):
        sources.resolve(source, cache=tmp_path, token=None)


def test_a_folder_that_lacks_a_shard_of_its_index_is_reported(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "a.safetensors").write_text("")
    (tmp_path / "model.safetensors.index.json").write_text(
        '{"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}'
    )
    source = sources.parse(f"file://{tmp_path}", claims=CLAIMS)
    with pytest.raises(EngineError, match=r"lists b\.safetensors, which is missing \(1 of 2"):
        sources.resolve(source, cache=tmp_path, token=None)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("model.safetensors", b"", r"model\.safetensors is empty"),
        ("m.gguf", b"GGUF", r"can't read here \(m\.gguf\)"),
        (
            "model.safetensors",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
            r"is a Git LFS pointer, not weights\. Run git lfs pull",
        ),
    ],
)
def test_files_of_a_folder_that_are_no_weights_are_reported(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).write_bytes(content)
    source = sources.parse(f"file://{tmp_path}", claims=CLAIMS)
    with pytest.raises(EngineError, match=reason):
        sources.resolve(source, cache=tmp_path, token=None)


@pytest.mark.parametrize("folder", ["../elsewhere", "/etc", "a/../../elsewhere"])
def test_a_record_that_leads_out_of_the_cache_is_none(tmp_path: Path, folder: str) -> None:
    cache = tmp_path / "cache"
    records.keep(cache, "hf://a/b", cache / "hub", {})
    record = next((cache / "records").iterdir())
    record.write_text(json.dumps({"uri": "hf://a/b", "folder": folder, "files": {}}))
    (tmp_path / "elsewhere").mkdir()
    assert records.find(cache, "hf://a/b") is None


def test_a_cache_that_takes_no_lock_is_reported_by_its_field(tmp_path: Path) -> None:
    (tmp_path / "locks").write_text("a file where the folder belongs")
    with (
        pytest.raises(EngineError, match=r"the cache of spec\.cache\.model can't be written"),
        locks.held(tmp_path, "hf://a/b"),
    ):
        pass


@pytest.mark.parametrize("revision", ["..", ".", "a/../b", "a//b", "/main", "main/"])
def test_a_revision_that_an_address_would_swallow_is_refused(revision: str) -> None:
    """`@..` was the default branch without a word."""
    with pytest.raises(UnsuitableError, match="has no valid revision"):
        sources.parse(f"hf://org/name@{revision}")
