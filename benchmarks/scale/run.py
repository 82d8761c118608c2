"""`make bench-scale`: what one tick of the scaling loop costs with thousands of services, against a real Prometheus."""

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import httpx
import yaml

from benchmarks import report
from benchmarks.scale.exporter import REPLICAS
from dev import waiting
from dev.cluster import binaries

FOLDER = Path(__file__).parent
TARGETS = 20
SCRAPE_SECONDS = 15
_READY_SECONDS = 120.0

MEANINGS = {
    "services": f"services with {REPLICAS} replicas each, scraped every {SCRAPE_SECONDS} s by a real Prometheus",
    "tick_s": "processor time of one tick, with parsing of Prometheus' answers, without reconciles: median",
    "rss_mb": "peak of the operator's resident memory, with all its objects",
    "queries": "queries sent to Prometheus in the first minute",
    "status_writes_per_minute": "status writes of all services together, in steady state",
    "tick_s_worst": "the most expensive tick",
    "cores_at_rest": "share of one core for ticks and reconciles in steady state",
    "tick_wall_s": "wall time of a tick, with waiting for Prometheus: median",
    "queries_of_one_service": "the same with one service",
    "queries_failed": "failed queries",
    "services_measured": "services whose latencies were known at the end",
    "stored_mb": "resident memory before the first tick",
}


@click.command()
@click.option("--services", default=5000, show_default=True)
@click.option("--ticks", type=click.IntRange(12), default=48, show_default=True, help="5 s each.")
def main(*, services: int, ticks: int) -> None:
    """Measure with one service and with many, and report."""
    with contextlib.ExitStack() as stack:
        homes = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(2)]
        large = stack.enter_context(_prometheus(homes[0], services))
        with _prometheus(homes[1], 1) as small:
            _until_scraped(small, pods=REPLICAS)
            one = _operator(small, services=1, ticks=12)
        _until_scraped(large, pods=services * REPLICAS)
        many = _operator(large, services=services, ticks=ticks)
    figures = {
        "services": services,
        "tick_s": round(statistics.median(many["cpu_s"]), 2),
        "rss_mb": round(many["rss_mb"]),
        "queries": many["queries_per_minute"],
        "status_writes_per_minute": round(many["status_writes_per_minute"]),
        "tick_s_worst": round(max(many["cpu_s"]), 2),
        "cores_at_rest": round(many["cores_at_rest"], 2),
        "tick_wall_s": round(statistics.median(many["wall_s"]), 2),
        "queries_of_one_service": one["queries_per_minute"],
        "queries_failed": many["queries_failed"],
        "services_measured": many["services_measured"],
        "stored_mb": round(many["stored_mb"]),
    }
    report.publish(
        folder=FOLDER,
        title="The scaling loop with thousands of services",
        command="make bench-scale",
        figures=figures,
        meanings=MEANINGS,
    )


def _operator(url: str, *, services: int, ticks: int) -> dict[str, Any]:
    sys.stderr.write(f"the operator with {services} services\n")
    command = [sys.executable, "-m", "benchmarks.scale.operator", "--url", url]
    command += ["--services", str(services), "--ticks", str(ticks)]
    outcome = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(outcome.stdout)
    if found["failures"]:
        sys.stderr.write(f"queries failed: {found['failures']}\n")
    return found


@contextlib.contextmanager
def _prometheus(home: Path, services: int) -> Iterator[str]:
    """One that scrapes the engines of so many services; its address."""
    exporter, port = _free_port(), _free_port()
    url = f"http://127.0.0.1:{port}"
    config = home / "prometheus.yml"
    config.write_text(yaml.safe_dump(_config(exporter)))
    program = binaries.folder() / "prometheus"
    words = [str(program), f"--config.file={config}", f"--storage.tsdb.path={home / 'data'}"]
    words += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    words += ["--storage.tsdb.retention.time=1h"]
    shows = [sys.executable, "-m", "benchmarks.scale.exporter", "--port", str(exporter)]
    shows += ["--services", str(services), "--targets", str(TARGETS)]
    with _running(shows), _running(words):
        yield url


def _config(exporter: int) -> dict[str, Any]:
    targets = [
        {
            "targets": [f"127.0.0.1:{exporter}"],
            "labels": {"__metrics_path__": f"/metrics/{number}", "instance": str(number)},
        }
        for number in range(TARGETS)
    ]
    every = f"{SCRAPE_SECONDS}s"
    job = {"job_name": "engines", "honor_labels": True, "static_configs": targets}
    return {
        "global": {"scrape_interval": every, "scrape_timeout": every},
        "runtime": {"gogc": 200},
        "scrape_configs": [job],
    }


def _until_scraped(url: str, *, pods: int) -> None:
    """Until every pod's counter has two samples."""
    query = 'count(rate(vllm:request_success_total{service!=""}[1m]))'

    def scraped() -> bool:
        with contextlib.suppress(httpx.TransportError):
            answer = httpx.get(f"{url}/api/v1/query", params={"query": query}, timeout=30)
            found = answer.json()["data"]["result"] if answer.is_success else ()
            return bool(found) and int(found[0]["value"][1]) >= pods
        return False

    waiting.until(scraped, seconds=_READY_SECONDS, what=f"{pods} pods scraped twice", interval=1.0)


@contextlib.contextmanager
def _running(command: Sequence[str]) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=sys.stderr, env={**os.environ})
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
