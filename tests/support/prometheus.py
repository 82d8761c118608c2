"""Prometheus processes for tests: the program of the local cluster, with a configuration of their own."""

import contextlib
import json
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from dev import waiting
from dev.cluster import binaries

SECONDS = 120.0
"""Seconds after which a Prometheus counts as broken: far more than a slow machine needs."""


class Server:
    """One running Prometheus."""

    def __init__(self, port: int, *, scheme: str = "http") -> None:
        self.url = f"{scheme}://127.0.0.1:{port}"

    def value(self, query: str) -> float | None:
        """Return the only value of a query; None if there is none."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": query}, timeout=10)
        answer.raise_for_status()
        result = answer.json()["data"]["result"]
        return float(result[0]["value"][1]) if result else None

    def until(self, query: str, least: float) -> None:
        """Wait until the only value of a query is at least this."""
        waiting.until(
            lambda: (self.value(query) or 0.0) >= least, seconds=SECONDS, what=query, interval=0.2
        )


def job(name: str, port: int, **labels: str) -> dict[str, Any]:
    """Return a scrape job of one local process, which sets these labels."""
    return {
        "job_name": name,
        "static_configs": [{"targets": [f"127.0.0.1:{port}"], "labels": labels}],
    }


@contextlib.contextmanager
def running(
    folder: Path,
    *,
    jobs: Sequence[Mapping[str, Any]] = (),
    external: Mapping[str, str] | None = None,
    sends_to: Server | None = None,
    web: Mapping[str, Any] | None = None,
) -> Iterator[Server]:
    """Run a Prometheus that scrapes each second; `sends_to` gets its samples by remote write."""
    folder.mkdir()
    config: dict[str, Any] = {
        "global": {
            "scrape_interval": "1s",
            "scrape_timeout": "1s",
            "external_labels": dict(external or {}),
        },
        "scrape_configs": list(jobs),
    }
    if sends_to is not None:
        config["remote_write"] = [
            {"url": f"{sends_to.url}/api/v1/write", "queue_config": {"batch_send_deadline": "1s"}}
        ]
    (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    port = _free_port()
    command = [
        str(binaries.build(["prometheus"], report=lambda *_: None) / "prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-remote-write-receiver",
        "--log.level=warn",
    ]
    if web is not None:
        (folder / "web.yml").write_text(json.dumps(web))
        command.append(f"--web.config.file={folder / 'web.yml'}")
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        waiting.until(
            lambda: _listens(port, process, log), seconds=SECONDS, what="Prometheus", log=log
        )
        yield Server(port, scheme="https" if web and "tls_server_config" in web else "http")
    finally:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _listens(port: int, process: "subprocess.Popen[bytes]", log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
