"""Downloads from a real S3 server, by the client of the images."""

import json
import os
import re
import resource
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from slipstream_runtime.contract import AUTHORITIES
from slipstream_runtime.errors import EngineError
from slipstream_runtime.model_files import buckets, sources
from slipstream_runtime.model_files.progress import Progress
from tests.support import hubs, stores
from tests.support.certificates import Authority

PART = 10_000
WEIGHTS = os.urandom(3 * PART + 7)
FILES = {"config.json": b"{}", "model.safetensors": WEIGHTS}


@pytest.fixture(autouse=True)
def client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small parts, so that small files have several, and no pauses between retries."""
    monkeypatch.setattr(buckets, "PART_BYTES", PART)
    monkeypatch.setattr(buckets, "_RETRY", {"max_retries": 0})


@pytest.fixture
def access(store: stores.Store, monkeypatch: pytest.MonkeyPatch) -> stores.Store:
    store.open_to(monkeypatch)
    return store


def fetch(uri: str, cache: Path, **options: Any) -> Path:
    return sources.resolve(sources.parse(uri), cache=cache, token=None, **options)


def test_one_form_of_the_weights_is_downloaded_by_the_index(
    access: stores.Store, tmp_path: Path
) -> None:
    index = json.dumps({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}).encode()
    wanted = {
        "config.json": b"{}",
        "model.safetensors.index.json": index,
        "a.safetensors": WEIGHTS,
        "b.safetensors": WEIGHTS[::-1],
    }
    access.put({**wanted, "consolidated.safetensors": WEIGHTS, "m.gguf": b"x"}, prefix="sharded/8b")
    progress = Progress(clock=time.monotonic)
    folder = fetch("s3://weights/sharded/8b", tmp_path, progress=progress)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == wanted
    assert progress.done == progress.total == sum(map(len, wanted.values()))


def test_what_is_there_is_not_downloaded_again(access: stores.Store, tmp_path: Path) -> None:
    access.put(FILES, prefix="again")
    first = fetch("s3://weights/again/", tmp_path)
    before = (first / "model.safetensors").stat()
    assert fetch("s3://weights/again/", tmp_path) == first
    assert (first / "model.safetensors").stat() == before


def test_an_upload_that_goes_on_is_no_model_before_its_last_file_is_there(
    access: stores.Store, tmp_path: Path
) -> None:
    access.put({"model.safetensors": WEIGHTS}, prefix="uploading")
    with pytest.raises(EngineError, match=r"has no config\.json there, so it is not a model"):
        fetch("s3://weights/uploading", tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))
    access.put({"tokenizer.json": b"{}", "config.json": b"{}"}, prefix="uploading")
    folder = fetch("s3://weights/uploading", tmp_path)
    names = {path.name for path in folder.iterdir()}
    assert names == {"model.safetensors", "tokenizer.json", "config.json"}


def test_an_interrupted_download_goes_on_where_it_stopped(
    access: stores.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access.put(FILES, prefix="resumed")
    real, asked = buckets.obstore.get, []

    def broken(store: Any, key: str, **options: Any) -> Any:
        if options and options["options"]["range"][0] == 2 * PART:
            raise ConnectionError("connection reset by peer")
        return real(store, key, **options)

    def counting(store: Any, key: str, **options: Any) -> Any:
        asked.append((key, options["options"]["range"]))
        return real(store, key, **options)

    download = buckets.Download(
        "s3://weights/resumed", "s3", "weights", "resumed", cache=tmp_path, connections=1
    )
    monkeypatch.setattr(buckets.obstore, "get", broken)
    with pytest.raises(EngineError, match="the connection broke off"):
        download.folder()
    monkeypatch.setattr(buckets.obstore, "get", counting)
    folder = download.folder()
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert asked == [
        ("resumed/model.safetensors", (2 * PART, 3 * PART)),
        ("resumed/model.safetensors", (3 * PART, 3 * PART + 7)),
    ]


def test_an_object_that_changes_during_the_download_is_not_mixed_with_its_former_self(
    access: stores.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access.put(FILES, prefix="changing")
    real, changed = buckets.obstore.get, []

    def late(store: Any, key: str, **options: Any) -> Any:
        answer = real(store, key, **options)
        if not changed:
            changed.append(key)
            access.put({"model.safetensors": WEIGHTS[::-1]}, prefix="changing")
        return answer

    download = buckets.Download(
        "s3://weights/changing", "s3", "weights", "changing", cache=tmp_path, connections=1
    )
    with monkeypatch.context() as patched:
        patched.setattr(buckets.obstore, "get", late)
        with pytest.raises(EngineError, match="changed during its download"):
            download.folder()
    folder = fetch("s3://weights/changing", tmp_path)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS[::-1]


def test_bytes_that_differ_on_the_disk_are_noticed(
    access: stores.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access.put(FILES, prefix="damaged")
    real = os.pwrite

    def damaged(file: int, content: Any, offset: int) -> int:
        return real(file, bytes(len(content)) if offset == PART else content, offset)

    with monkeypatch.context() as patched:
        patched.setattr(buckets.os, "pwrite", damaged)
        with pytest.raises(EngineError, match=r"model\.safetensors has a different checksum"):
            fetch("s3://weights/damaged", tmp_path)
    folder = fetch("s3://weights/damaged", tmp_path)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("s3://nothing/8b", "there is no bucket nothing"),
        ("s3://weights/empty", "bucket weights has no object below empty/"),
    ],
)
def test_what_is_not_there_is_reported(
    access: stores.Store, tmp_path: Path, uri: str, reason: str
) -> None:
    with pytest.raises(EngineError, match=reason):
        fetch(uri, tmp_path)


def test_refused_credentials_are_reported_by_their_field_and_never_repeated(
    access: stores.Store, tmp_path: Path
) -> None:
    access.put(FILES, prefix="private")
    access.check_credentials(after=0)
    try:
        with pytest.raises(EngineError, match=r"refused \(403.*spec\.model\.credentials") as caught:
            fetch("s3://weights/private", tmp_path)
    finally:
        access.check_credentials(after=1_000_000)
    assert "secret" not in caught.value.reason


def test_the_secret_that_is_mounted_names_endpoint_region_and_keys(
    store: stores.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(FILES, prefix="mounted")
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    secret = tmp_path / "secret"
    secret.mkdir()
    for key, value in {
        "AWS_ENDPOINT_URL": store.url,
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret\n",
    }.items():
        (secret / key).write_text(value)
    given = buckets.credentials.s3(secret)
    monkeypatch.setattr(buckets.credentials, "s3", lambda: given)
    folder = fetch("s3://weights/mounted", tmp_path)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_the_client_of_google_cloud_storage_takes_its_key_file_from_the_secret(
    store: stores.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both stores speak the same XML; what Google's identity service does is not part of this."""
    for name, content in FILES.items():
        url = f"{store.url}/{store.bucket}/google/{name}"
        httpx.put(url, content=content, headers={"x-amz-acl": "public-read"}).raise_for_status()
    secret = tmp_path / "secret"
    secret.mkdir()
    key = {"gcs_base_url": store.url, "disable_oauth": True}
    key |= dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
    (secret / "GOOGLE_APPLICATION_CREDENTIALS").write_text(json.dumps(key))
    given = buckets.credentials.gs(secret)
    monkeypatch.setattr(buckets.credentials, "gs", lambda: given)
    folder = fetch("gs://weights/google", tmp_path / "cache")
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_the_true_cause_of_a_store_that_is_away_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    for url, reason in (
        ("https://127.0.0.1:9", "the connection was refused"),
        ("https://store.invalid", r"its host name can't be resolved \(DNS\)"),
    ):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(EngineError, match=reason):
            fetch("s3://weights/8b", tmp_path)


def test_a_company_certificate_is_trusted_by_ssl_cert_file_and_named_as_the_cause_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    certificate = Authority().fill(tmp_path, "127.0.0.1")
    with hubs.serve(hubs.Hub({}), certificate=certificate) as served:
        monkeypatch.setenv("AWS_ENDPOINT_URL", served.url)
        with pytest.raises(EngineError, match=r"certificate verify failed .*SSL_CERT_FILE"):
            fetch("s3://weights/8b", tmp_path)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate / AUTHORITIES))
        with pytest.raises(EngineError, match="the store answered 404"):
            fetch("s3://weights/8b", tmp_path)


def test_missing_credentials_are_reported_by_their_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(EngineError, match=r"there are no credentials in spec\.model\.credentials"):
        fetch("s3://weights/8b", tmp_path)


@pytest.mark.parametrize("key", ["../../escaped", "%2e%2e/escaped", "/escaped", "a//escaped"])
def test_a_key_that_would_leave_the_folder_is_refused_by_its_cause(
    access: stores.Store, tmp_path: Path, key: str
) -> None:
    access.put(FILES, prefix=f"keys/{len(key)}")
    access.put_raw(f"keys/{len(key)}/{key}", b"{}")
    with pytest.raises(EngineError, match="an object whose key is not a path"):
        fetch(f"s3://weights/keys/{len(key)}", tmp_path / "cache")
    assert not [path for path in tmp_path.rglob("*") if "escaped" in path.name]


def test_objects_that_are_file_and_folder_at_once_are_reported_as_such(
    access: stores.Store, tmp_path: Path
) -> None:
    access.put({**FILES, "a": b"x", "a/b": b"x"}, prefix="clash")
    with pytest.raises(EngineError, match="its files can't be written to the cache"):
        fetch("s3://weights/clash", tmp_path)


def test_empty_weights_are_reported(access: stores.Store, tmp_path: Path) -> None:
    access.put({**FILES, "model.safetensors": b""}, prefix="empty-weights")
    with pytest.raises(EngineError, match=r"model\.safetensors is empty"):
        fetch("s3://weights/empty-weights", tmp_path)


def test_a_write_that_takes_a_part_is_continued(
    access: stores.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fills up does so; the object was uploaded in parts, so that no checksum tells."""
    access.put(FILES, prefix="short")
    real = os.pwrite
    monkeypatch.setattr(buckets, "_MD5", re.compile("never"))
    monkeypatch.setattr(
        buckets.os,
        "pwrite",
        lambda file, content, offset: real(file, content[: len(content) // 2 + 1], offset),
    )
    folder = fetch("s3://weights/short", tmp_path)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_a_note_that_a_full_disk_cut_counts_for_no_part(
    access: stores.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access.put(FILES, prefix="notes")
    real = buckets.obstore.get

    def broken(store: Any, key: str, **options: Any) -> Any:
        if options and options["options"]["range"][0] >= PART:
            raise ConnectionError("connection reset by peer")
        return real(store, key, **options)

    with monkeypatch.context() as patched:
        patched.setattr(buckets.obstore, "get", broken)
        with pytest.raises(EngineError, match="the connection broke off"):
            fetch("s3://weights/notes", tmp_path)
    for notes in tmp_path.rglob("*.parts"):
        notes.write_text(notes.read_text() + "2")
    folder = fetch("s3://weights/notes", tmp_path)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_a_model_with_more_files_than_a_process_may_open_is_downloaded(
    access: stores.Store, tmp_path: Path
) -> None:
    files = {f"tokens/{number}.json": b"{}" for number in range(80)}
    access.put({**FILES, **files}, prefix="files")
    opened = len([*Path("/proc/self/fd").iterdir()])
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 60, limits[1]))
    try:
        folder = fetch("s3://weights/files", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len([*folder.rglob("*.json")]) == len(files) + 1
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_a_download_that_was_killed_before_its_files_got_their_names_is_finished(
    access: stores.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access.put(FILES, prefix="named")
    with monkeypatch.context() as patched:
        patched.setattr(buckets._File, "finish", lambda *_, **__: None)
        with pytest.raises(EngineError, match="there is no folder"):
            fetch("s3://weights/named", tmp_path)
    asked = access.downloads("named/model.safetensors")
    folder = fetch("s3://weights/named", tmp_path)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert access.downloads("named/model.safetensors") == asked
