"""Servers that benchmarks compare: stock vLLM and Slipstream's engine, in one interpreter with one model."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from dev import metrics, waiting
from dev.errors import DevError
from slipstream_runtime import contract
from slipstream_runtime.web import sockets

NAME = "chat"
MODEL = Path("dev/models/target").resolve()
KV_BYTES = 64 * 2**20
_START_SECONDS = 300.0
_STOP_SECONDS = 20.0
_PROBE = {"model": NAME, "prompt": "Name the capital of Dibramia.", "max_tokens": 4}


@dataclass(frozen=True)
class Server:
    """A server that has answered its first completion."""

    url: str
    metrics: str
    """Where its metrics are."""
    process: subprocess.Popen[bytes]
    start_seconds: float
    """From the start of its process to that answer."""

    def cpu_seconds(self) -> float:
        """Processor time that the server and its children have used so far."""
        root = psutil.Process(self.process.pid)
        times = [each.cpu_times() for each in (root, *root.children(recursive=True))]
        return sum(each.user + each.system for each in times)

    def gauge(self, name: str) -> float | None:
        """A gauge without labels, as the metrics page shows it now; None if it is not there."""
        page = httpx.get(self.metrics).raise_for_status().text
        return next((sample.value for sample in metrics.samples(page, name)), None)

    def memory_mb(self) -> float:
        """Memory of the server and its children, shared pages counted once, in MiB."""
        root = psutil.Process(self.process.pid)
        found = (each.memory_full_info().pss for each in (root, *root.children(recursive=True)))
        return sum(found) / 2**20


@contextlib.contextmanager
def stock(
    home: Path, *, words: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """`vllm serve`, as shipped but for words and environment; its caches lie in `home`."""
    port = free_port()
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", str(MODEL), "--served-model-name", NAME, "--port", str(port)]
    # NB: by itself vLLM takes its KV cache from the whole machine's memory.
    command += ["--kv-cache-memory-bytes", str(KV_BYTES), *words]
    url = _local(port)
    with _running(
        command, home=home, url=url, metrics=f"{url}/metrics", environment=environment or {}
    ) as server:
        yield server


@contextlib.contextmanager
def slipstream(home: Path, *, config: Mapping[str, Any] | None = None) -> Iterator[Server]:
    """`slipstream_runtime.engine` with the defaults that the operator gives a CPU engine, but for the config."""
    port, management = free_port(), free_port()
    file = home / "engine.json"
    file.write_text(json.dumps({**defaults(), **(config or {})}))
    command = [sys.executable, "-m", contract.ENGINE_MODULE, "--config", str(file)]
    command += ["--api-port", str(port), "--management-port", str(management)]
    command += ["--termination-log", str(home / "termination-log")]
    metrics = f"{_local(management)}{contract.METRICS_PATH}"
    with _running(command, home=home, url=_local(port), metrics=metrics, environment={}) as server:
        yield server


def defaults() -> dict[str, Any]:
    """Configuration of an engine on CPU."""
    return {
        "model": {"uri": f"file://{MODEL}", "name": NAME},
        "device": "cpu",
        "cores": os.cpu_count(),
        "cache": {"compile": False, "kvBytes": KV_BYTES},
        "drainSeconds": 5,
    }


@contextlib.contextmanager
def _running(
    command: Sequence[str],
    *,
    home: Path,
    url: str,
    metrics: str,
    environment: Mapping[str, str],
) -> Iterator[Server]:
    everything = {
        **os.environ,
        "HOME": str(home),
        "TMPDIR": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "PYTHONPATH": "runtime",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        **environment,
    }
    started = time.monotonic()
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=everything)
    try:
        _until_it_answers(url, process, log=home / "log")
        yield Server(url, metrics, process, time.monotonic() - started)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until_it_answers(url: str, process: subprocess.Popen[bytes], *, log: Path) -> None:
    def answers() -> bool:
        if process.poll() is not None:
            raise DevError(f"{url} ended with {process.returncode}", log=log)
        with contextlib.suppress(httpx.TransportError):
            return httpx.post(f"{url}/v1/completions", json=_PROBE, timeout=60).is_success
        return False

    waiting.until(answers, seconds=_START_SECONDS, what=f"{url} answers", log=log)


def _local(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def free_port() -> int:
    with sockets.bind(0) as bound:  # as engines do, so that it is free on every address
        port: int = bound.getsockname()[1]
        return port
