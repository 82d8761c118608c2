"""Downloads from a real hub server on this machine, by the real client."""

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from slipstream_runtime import contract
from slipstream_runtime.contract import AUTHORITIES
from slipstream_runtime.errors import EngineError, UnsuitableError
from slipstream_runtime.model_files import hub as hub_module
from slipstream_runtime.model_files import sources, space
from slipstream_runtime.model_files.progress import Progress
from tests.support import hubs
from tests.support.certificates import Authority

WEIGHTS = os.urandom(64_000)
FILES = {"config.json": b"{}", "model.safetensors": WEIGHTS}
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
URI = "hf://org/name"


@pytest.fixture(autouse=True)
def sessions(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No client of another test, whose certificates it would keep."""
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    huggingface_hub.close_session()
    yield
    huggingface_hub.close_session()


def fetch(hub: hubs.Hub, cache: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Path:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    options = {"token": None, **options}
    return sources.resolve(sources.parse(options.pop("uri", URI)), cache=cache, **options)


def test_one_form_of_the_weights_is_downloaded_by_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = {"weight_map": {"x": SHARDS[0], "y": SHARDS[1]}}
    files = {
        "config.json": b"{}",
        "model.safetensors.index.json": json.dumps(index).encode(),
        **dict.fromkeys(SHARDS, WEIGHTS),
        "consolidated.safetensors": WEIGHTS,
        "pytorch_model.bin": WEIGHTS,
        "coreml/model.bin": WEIGHTS,
    }
    with hubs.serve(hubs.Hub(files)) as hub:
        folder = fetch(hub, tmp_path, monkeypatch)
    found = {path.name for path in folder.rglob("*") if path.is_file()}
    assert found == {"config.json", "model.safetensors.index.json", *SHARDS}


def test_an_index_that_names_a_missing_file_is_reported_before_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = json.dumps({"weight_map": {"x": SHARDS[0]}}).encode()
    with (
        hubs.serve(hubs.Hub({**FILES, "model.safetensors.index.json": index})) as hub,
        pytest.raises(EngineError, match=f"lists {SHARDS[0]}, which is missing"),
    ):
        fetch(hub, tmp_path, monkeypatch)
    assert not [line for line in hub.asked if line.endswith("model.safetensors")]


def test_a_download_that_breaks_off_is_resumed_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = Progress(clock=time.monotonic)
    with hubs.serve(hubs.Hub(FILES, cut_after=20_000)) as hub:
        folder = fetch(hub, tmp_path, monkeypatch, progress=progress)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert "model.safetensors" in hub.cut
    assert progress.done == progress.total == len(WEIGHTS) + 2


def test_weights_with_another_checksum_are_refused_and_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = hubs.Hub(FILES, corrupt="model.safetensors")
    with hubs.serve(hub):
        with pytest.raises(EngineError, match=r"model\.safetensors has a different checksum"):
            fetch(hub, tmp_path, monkeypatch)
        hub.corrupt = None
        folder = fetch(hub, tmp_path, monkeypatch)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_a_disk_that_is_too_small_is_reported_before_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=(64 << 20) + 1000)
    monkeypatch.setattr(space.shutil, "disk_usage", lambda _: usage)
    with (
        hubs.serve(hubs.Hub(FILES)) as hub,
        pytest.raises(
            EngineError, match=r"62\.5 KiB remain to be downloaded, and the cache has 64"
        ),
    ):
        fetch(hub, tmp_path, monkeypatch)
    assert not [line for line in hub.asked if line.endswith("model.safetensors")]


def test_a_complete_copy_is_used_while_the_hub_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hubs.serve(hubs.Hub(FILES)) as hub:
        folder = fetch(hub, tmp_path, monkeypatch)
    huggingface_hub.close_session()
    assert fetch(hub, tmp_path, monkeypatch) == folder
    (folder / "model.safetensors").unlink()
    with pytest.raises(EngineError, match="the connection was refused"):
        fetch(hub, tmp_path, monkeypatch)


def test_a_copy_that_a_user_put_into_the_cache_is_used_without_a_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hubs.serve(hubs.Hub(FILES)) as hub:
        huggingface_hub.snapshot_download(
            "org/name", cache_dir=tmp_path / "hub", token=False, endpoint=hub.url
        )
    huggingface_hub.close_session()
    folder = fetch(hub, tmp_path, monkeypatch)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_a_recorded_copy_of_a_pinned_commit_is_used_without_asking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"{URI}@{hubs.COMMIT}"
    with hubs.serve(hubs.Hub(FILES)) as hub:
        folder = fetch(hub, tmp_path, monkeypatch, uri=uri)
        asked = len(hub.asked)
        assert fetch(hub, tmp_path, monkeypatch, uri=uri) == folder
        assert len(hub.asked) == asked
        (folder / "model.safetensors").resolve().write_bytes(b"cut")
        fetch(hub, tmp_path, monkeypatch, uri=uri)
        assert len(hub.asked) > asked


def test_a_recorded_copy_of_the_present_commit_is_used_after_one_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hubs.serve(hubs.Hub(FILES)) as hub:
        folder = fetch(hub, tmp_path, monkeypatch)
        asked = len(hub.asked)
        assert fetch(hub, tmp_path, monkeypatch) == folder
        assert len(hub.asked) == asked + 1


@pytest.mark.parametrize("revision", ["", "@main", f"@{hubs.COMMIT}"])
def test_a_copy_is_used_if_the_hub_takes_the_connection_and_never_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, revision: str
) -> None:
    with hubs.serve(hubs.Hub(FILES)) as hub:
        folder = fetch(hub, tmp_path, monkeypatch, uri=URI + revision)
    huggingface_hub.close_session()
    monkeypatch.setattr(hub_module, "LOOK_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hub.url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert fetch(hub, tmp_path, monkeypatch, uri=URI + revision) == folder


def test_a_download_from_a_hub_that_never_answers_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "SILENCE_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hub = hubs.Hub(FILES, url=f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(EngineError, match="it did not answer in time"):
            fetch(hub, tmp_path, monkeypatch)


def test_a_model_in_mistrals_format_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"params.json": b"{}", "tekken.json": b"{}", "consolidated.safetensors": WEIGHTS}
    with hubs.serve(hubs.Hub(files)) as hub:
        folder = fetch(hub, tmp_path, monkeypatch)
    assert {path.name for path in folder.iterdir()} == set(files)


def test_what_a_job_fetched_is_used_without_asking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hubs.serve(hubs.Hub(FILES)) as hub:
        folder = fetch(hub, tmp_path, monkeypatch)
        asked = len(hub.asked)
        monkeypatch.setenv(contract.FETCHED_ENV, "1")
        assert fetch(hub, tmp_path, monkeypatch) == folder
    assert len(hub.asked) == asked


@pytest.mark.parametrize(
    ("gated", "token", "reason"),
    [
        (True, None, "the repository is gated and there is no token. Set spec.model.tokenSecret."),
        (True, "hf_wrong", "is gated for the token of spec.model.tokenSecret"),
        (False, "hf_wrong", "does not exist, or is private for the token"),
    ],
)
def test_a_refusal_is_reported_without_the_token(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gated: bool,
    token: str | None,
    reason: str,
) -> None:
    with (
        hubs.serve(hubs.Hub(FILES, token="hf_secret", gated=gated)) as hub,
        pytest.raises(EngineError, match=reason) as caught,
    ):
        fetch(hub, tmp_path, monkeypatch, token=token)
    assert "hf_" not in caught.value.reason


def test_the_right_token_opens_a_gated_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hubs.serve(hubs.Hub(FILES, token="hf_secret", gated=True)) as hub:
        folder = fetch(hub, tmp_path, monkeypatch, token="hf_secret")
    assert (folder / "config.json").read_bytes() == b"{}"


def test_an_unknown_revision_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        hubs.serve(hubs.Hub(FILES)) as hub,
        pytest.raises(EngineError, match="has no revision v9"),
    ):
        fetch(hub, tmp_path, monkeypatch, uri=f"{URI}@v9")


def test_a_company_certificate_is_trusted_by_ssl_cert_file_and_named_as_the_cause_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = Authority().fill(tmp_path, "127.0.0.1")
    with hubs.serve(hubs.Hub(FILES), certificate=certificate) as hub:
        with pytest.raises(EngineError, match=r"certificate verify failed .*SSL_CERT_FILE"):
            fetch(hub, tmp_path / "cache", monkeypatch)
        huggingface_hub.close_session()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate / AUTHORITIES))
        folder = fetch(hub, tmp_path / "cache", monkeypatch)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("url", "proxy", "reason"),
    [
        ("http://127.0.0.1:9", None, "the connection was refused"),
        ("https://hub.invalid", None, r"its host name can't be resolved \(DNS\)"),
        ("https://hub.invalid", "http://127.0.0.1:9", "the connection was refused"),
    ],
)
def test_the_true_cause_is_reported(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    proxy: str | None,
    reason: str,
) -> None:
    if proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy)
    hub = hubs.Hub(FILES, url=url)
    with pytest.raises(EngineError, match=reason):
        fetch(hub, tmp_path, monkeypatch)


def test_an_engine_that_names_its_files_gets_these_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {**FILES, "onnx/model.onnx": WEIGHTS}
    with hubs.serve(hubs.Hub(files)) as hub:
        folder = fetch(hub, tmp_path, monkeypatch, files=["*.json", "onnx/model.onnx"])
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {"config.json", "onnx/model.onnx"}


@pytest.mark.parametrize("gated", [True, False])
def test_a_copy_that_another_token_got_is_not_handed_to_one_that_the_hub_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gated: bool
) -> None:
    with hubs.serve(hubs.Hub(FILES, token="hf_secret", gated=gated)) as hub:
        fetch(hub, tmp_path, monkeypatch, token="hf_secret")
        with pytest.raises(EngineError, match=r"is gated|does not exist, or is private"):
            fetch(hub, tmp_path, monkeypatch, token="hf_of_others")


def test_a_copy_without_weights_is_no_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download that was killed leaves config.json, which is loaded first."""
    with hubs.serve(hubs.Hub(FILES)) as hub:
        huggingface_hub.snapshot_download(
            "org/name",
            cache_dir=tmp_path / "hub",
            token=False,
            endpoint=hub.url,
            allow_patterns=["config.json"],
        )
    huggingface_hub.close_session()
    with pytest.raises(EngineError, match="The cache holds no copy"):
        fetch(hub, tmp_path, monkeypatch)


@pytest.mark.parametrize("name", ["../../escaped.json", "/escaped.json", "a/../../escaped.json"])
def test_a_mirror_that_names_files_outside_of_the_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with (
        hubs.serve(hubs.Hub({**FILES, name: b"{}"})) as hub,
        pytest.raises(UnsuitableError, match="is outside the model's folder"),
    ):
        fetch(hub, tmp_path / "cache", monkeypatch)
    assert not [path for path in tmp_path.rglob("*") if "escaped" in path.name]


def test_a_repository_with_gguf_alone_is_refused_before_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"config.json": b"{}", "model-q4.gguf": WEIGHTS}
    with (
        hubs.serve(hubs.Hub(files)) as hub,
        pytest.raises(UnsuitableError, match=r"can't read here \(model-q4\.gguf\)\. Use a repo"),
    ):
        fetch(hub, tmp_path, monkeypatch)


def test_empty_weights_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        hubs.serve(hubs.Hub({**FILES, "model.safetensors": b""})) as hub,
        pytest.raises(EngineError, match=r"model\.safetensors is empty"),
    ):
        fetch(hub, tmp_path, monkeypatch)


def test_a_name_that_the_disk_refuses_is_no_fault_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        hubs.serve(hubs.Hub({**FILES, "x" * 300: b"{}"})) as hub,
        pytest.raises(EngineError, match=r"can't be written to the cache: File name too long"),
    ):
        fetch(hub, tmp_path, monkeypatch)


def test_a_cache_behind_a_link_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with hubs.serve(hubs.Hub(FILES)) as hub:
        fetch(hub, tmp_path / "link", monkeypatch)
        monkeypatch.setenv(contract.FETCHED_ENV, "1")
        asked = len(hub.asked)
        folder = fetch(hub, tmp_path / "link", monkeypatch)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert len(hub.asked) == asked
