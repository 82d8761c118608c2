"""From a model's URI to a folder, and what is said when there is none."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import errors as hub_errors

from slipstream_runtime.host import hub, sources
from slipstream_runtime.host.errors import EngineError, UnsuitableError

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
        ("hf://org/name@main", "org/name", "main"),
        ("hf://org/name@refs/pr/1", "org/name", "refs/pr/1"),
    ],
)
def test_hub_uris_are_repositories(uri: str, repository: str, revision: str | None) -> None:
    source = sources.parse(uri, claims=CLAIMS)
    assert (source.repository, source.revision) == (repository, revision)
    assert not source.local


@pytest.mark.parametrize(
    "uri", ["", "/m", "m", "file://m", "s3://b/m", "hf://name", "hf://a/b/c", "pvc://", "hf://a/b@"]
)
def test_other_uris_are_refused_by_name(uri: str) -> None:
    with pytest.raises(UnsuitableError, match=r"spec\.model\.uri"):
        sources.parse(uri, claims=CLAIMS)


def test_a_claim_cannot_be_left() -> None:
    with pytest.raises(UnsuitableError, match="leaves its claim"):
        sources.parse("pvc://weights/../../etc", claims=CLAIMS)


def test_a_missing_folder_is_told_with_its_uri_and_may_heal(tmp_path: Path) -> None:
    source = sources.parse("pvc://weights/m", claims=tmp_path)
    with pytest.raises(EngineError) as caught:
        sources.resolve(source, cache=tmp_path, token=None)
    assert caught.value.reason == (
        f"pvc://weights/m: there is no folder {tmp_path}/weights/m in claim weights"
    )
    assert caught.value.exit_code == 1


def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    source = sources.parse(f"file://{tmp_path}", claims=CLAIMS)
    with pytest.raises(EngineError, match=r"holds no config\.json"):
        sources.resolve(source, cache=tmp_path, token=None)


def test_a_model_is_found(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    source = sources.parse(f"file://{tmp_path}", claims=CLAIMS)
    assert sources.resolve(source, cache=tmp_path, token=None) == tmp_path


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
        (hub_errors.LocalEntryNotFoundError("x"), True, "cannot be reached"),
        (ConnectionError("x"), True, "cannot be reached (ConnectionError)"),
    ],
)
def test_failures_of_the_hub_are_told_in_terms_of_the_service(
    error: Exception, has_token: bool, reason: str
) -> None:
    told = hub.explain(error, uri="hf://o/n", revision="v9", has_token=has_token)
    assert told.startswith("hf://o/n: ")
    assert reason in told


def test_the_token_is_never_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, token: str, **kwargs: object) -> str:
        raise ConnectionError(f"with {token}")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", refuse)
    source = sources.parse("hf://org/name")
    with pytest.raises(EngineError) as caught:
        sources.resolve(source, cache=tmp_path, token="hf_secret")
    assert "hf_secret" not in caught.value.reason


@pytest.mark.parametrize(
    ("names", "pickled_too"), [(["a.safetensors", "a.bin"], False), (["a.bin"], True)]
)
def test_pickled_copies_of_the_weights_are_not_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], pickled_too: bool
) -> None:
    seen: dict[str, Any] = {}

    def download(*args: object, **kwargs: object) -> str:
        seen.update(kwargs)
        (tmp_path / "config.json").write_text("{}")
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", lambda *args, **kwargs: names)
    source = sources.parse("hf://org/name@v1")
    assert sources.resolve(source, cache=tmp_path, token="t") == tmp_path
    assert ("*.bin" not in seen["ignore_patterns"]) is pickled_too
    assert (seen["revision"], seen["cache_dir"]) == ("v1", tmp_path / "hub")


def test_an_engine_that_names_its_files_gets_these_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def download(*args: object, **kwargs: object) -> str:
        seen.update(kwargs)
        (tmp_path / "config.json").write_text("{}")
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    source = sources.parse("hf://org/name")
    sources.resolve(source, cache=tmp_path, token=None, files=["*.json", "onnx/model.onnx"])
    assert seen["allow_patterns"] == ["*.json", "onnx/model.onnx"]
    assert seen["ignore_patterns"] == []
