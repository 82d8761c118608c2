"""The process that downloads a model before its engines start, against a real hub server."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from dev import waiting
from slipstream_runtime import contract
from tests.support import hubs

CONFIG = {"architectures": ["LlamaForCausalLM"], "hidden_size": 64, "unknown": 1}
WEIGHTS = os.urandom(24 << 20)
"""Huge to the hub of the tests, which can stop in its middle."""
FILES = {"config.json": json.dumps(CONFIG).encode(), "model.safetensors": WEIGHTS}
REPORT = {
    "model": {
        "uri": "hf://org/name",
        "bytes": len(WEIGHTS),
        "config": {"architectures": ["LlamaForCausalLM"], "hidden_size": 64},
    }
}


class Fetch:
    """One process, and what it wrote."""

    def __init__(self, hub: hubs.Hub, cache: Path, folder: Path, *arguments: str) -> None:
        folder.mkdir()
        self.termination_log = folder / "termination-log"
        self.log = folder / "log"
        command = [sys.executable, "-m", contract.FETCH_MODULE, "--model", "hf://org/name"]
        command += ["--cache", str(cache), "--management-port", "0"]
        command += ["--termination-log", str(self.termination_log), *arguments]
        environment = {
            **os.environ,
            "HF_ENDPOINT": hub.url,
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = [line for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [entry for entry in map(json.loads, lines) if entry["event"] == name]

    def until(self, condition: Callable[[], bool], *, what: str) -> None:
        waiting.until(condition, seconds=300, what=what, log=self.log)

    def status(self) -> dict[str, Any]:
        port = self.events("listening")[0]["management"]
        found: dict[str, Any] = httpx.get(f"http://127.0.0.1:{port}{contract.STATUS_PATH}").json()
        return found

    def wait(self) -> int:
        return self.process.wait(50)

    def report(self) -> Any:
        return json.loads(self.termination_log.read_text())


def test_a_model_is_downloaded_and_reported(tmp_path: Path) -> None:
    with hubs.serve(hubs.Hub({**FILES, "consolidated.safetensors": WEIGHTS})) as hub:
        fetch = Fetch(hub, tmp_path / "cache", tmp_path / "pod")
        assert fetch.wait() == 0, fetch.log.read_text()
    assert fetch.report() == REPORT
    (found,) = (tmp_path / "cache").rglob("snapshots/*/*.safetensors")
    assert found.read_bytes() == WEIGHTS


def test_a_killed_download_keeps_whole_files_and_leaves_no_others(tmp_path: Path) -> None:
    shards = {"a.safetensors": WEIGHTS[: 1 << 18], "b.safetensors": WEIGHTS}
    index = {"weight_map": {name: name for name in shards}}
    files = {
        "config.json": FILES["config.json"],
        "model.safetensors.index.json": json.dumps(index).encode(),
        **shards,
    }
    hub = hubs.Hub(files, gate=threading.Event())
    cache = tmp_path / "cache"
    with hubs.serve(hub):
        first = Fetch(hub, cache, tmp_path / "first")
        first.until(
            lambda: hub.stopped.is_set() and bool(list(cache.rglob("snapshots/*/a.safetensors"))),
            what="the first file",
        )
        seen = first.status()
        first.process.send_signal(signal.SIGKILL)
        first.wait()
        assert list(cache.rglob("*.incomplete"))
        assert hub.gate is not None
        hub.gate.set()
        asked = len(hub.asked)
        second = Fetch(hub, cache, tmp_path / "second")
        assert second.wait() == 0, second.log.read_text()
    assert seen["totalBytes"] == sum(map(len, files.values()))
    assert 1 << 18 <= seen["doneBytes"] < seen["totalBytes"]
    loads = [line for line in hub.asked[asked:] if "GET" in line and line.endswith(".safetensors")]
    assert [line.rpartition("/")[2] for line in loads] == ["b.safetensors"]
    assert not list(cache.rglob("*.incomplete"))
    assert second.report()["model"]["bytes"] == (1 << 18) + len(WEIGHTS)


def test_two_services_that_share_a_cache_download_once(tmp_path: Path) -> None:
    hub = hubs.Hub(FILES, gate=threading.Event())
    with hubs.serve(hub):
        first = Fetch(hub, tmp_path / "cache", tmp_path / "first")
        first.until(hub.stopped.is_set, what="the first download")
        second = Fetch(hub, tmp_path / "cache", tmp_path / "second")
        second.until(lambda: bool(second.events("waiting for another pod's download")), what="lock")
        assert hub.gate is not None
        hub.gate.set()
        assert (first.wait(), second.wait()) == (0, 0)
    assert first.report() == second.report() == REPORT
    loads = [line for line in hub.asked if "GET" in line and line.endswith("model.safetensors")]
    assert len(loads) == 1


def test_a_stopped_download_is_not_taken_for_a_finished_one(tmp_path: Path) -> None:
    hub = hubs.Hub(FILES, gate=threading.Event())
    with hubs.serve(hub):
        fetch = Fetch(hub, tmp_path / "cache", tmp_path / "pod")
        fetch.until(hub.stopped.is_set, what="the download")
        fetch.process.terminate()
        assert fetch.wait() == 143
        assert hub.gate is not None
        hub.gate.set()


def test_an_inspection_downloads_no_weights(tmp_path: Path) -> None:
    with hubs.serve(hubs.Hub(FILES)) as hub:
        fetch = Fetch(hub, tmp_path / "cache", tmp_path / "pod", "--inspect")
        assert fetch.wait() == 0, fetch.log.read_text()
    assert fetch.report() == REPORT
    assert not [line for line in hub.asked if "safetensors" in line]


@pytest.mark.parametrize("arguments", [(), ("--inspect",)])
def test_a_failure_is_left_for_the_operator_in_one_line(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    with hubs.serve(hubs.Hub(FILES, token="hf_secret", gated=True)) as hub:
        fetch = Fetch(hub, tmp_path / "cache", tmp_path / "pod", *arguments)
        assert fetch.wait() == 1
    assert fetch.termination_log.read_text() == (
        "hf://org/name: the repository is gated and there is no token. Set spec.model.tokenSecret.\n"
    )
