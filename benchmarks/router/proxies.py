"""What stands between client and engines: nothing, our router as in production, nginx, another LLM router."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks.router import client
from benchmarks.servers import free_port
from dev import waiting
from slipstream_runtime import contract

_TOKENS_PER_MINUTE: Final = 2_000_000_000
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 20.0


@dataclass(frozen=True)
class Proxy:
    """One way to the engines."""

    name: str
    port: int
    management_port: int | None = None
    process: psutil.Process | None = None
    log: Path | None = None

    def cpu_seconds(self) -> float:
        """Processor time that it and its children have used so far."""
        times = [each.cpu_times() for each in self._processes()]
        return sum(each.user + each.system for each in times)

    def memory_mb(self) -> float:
        """Resident memory of it and its children, shared pages counted once, in MiB."""
        return sum(each.memory_full_info().pss for each in self._processes()) / 2**20

    def _processes(self) -> list[psutil.Process]:
        if self.process is None:
            return []
        return [self.process, *self.process.children(recursive=True)]


@contextlib.contextmanager
def slipstream(home: Path, *, engines: Sequence[int], cores: set[int]) -> Iterator[Proxy]:
    """The router's own process, with keys, budgets, prefixes, response cache and metrics on."""
    service = {
        "name": "chat",
        "model": "chat",
        "revisions": [{"name": "chat-1", "weight": 100}],
        "strategy": "Prefix",
        "keys": True,
        "responses": {"ttl": 60, "size": 2**20},
        "kvTokens": 500_000,
    }
    key = {
        "sha256": hashlib.sha256(client.KEY.encode()).hexdigest(),
        "tenant": "benchmark",
        "tokensPerMinute": _TOKENS_PER_MINUTE,
    }
    places = [{"host": "127.0.0.1", "port": port, "managementPort": port} for port in engines]
    files: dict[str, object] = {
        "router.json": {"namespace": "bench", "services": [service]},
        "endpoints.json": {"revisions": {"chat-1": places}},
        "keys/chat/client": key,
        f"token/{contract.ROUTER_TOKEN_KEY}": "a-token-of-the-benchmark",
    }
    for name, content in files.items():
        file = home / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content if isinstance(content, str) else json.dumps(content))
    command = [sys.executable, "-m", contract.ROUTER_MODULE]
    command += ["--config", str(home / "router.json"), "--endpoints", str(home / "endpoints.json")]
    command += ["--keys", str(home / "keys"), "--token", str(home / "token")]
    command += ["--api-port", "0", "--management-port", "0", "--linger", "0", "--grace", "0"]
    with _running(command, home=home, cores=cores, environment={"PYTHONPATH": "runtime"}) as run:
        told = _listening(home / "log")
        yield Proxy("slipstream", told["api"], told["management"], run, home / "log")


@contextlib.contextmanager
def nginx(home: Path, *, program: Path, engines: Sequence[int], cores: set[int]) -> Iterator[Proxy]:
    """nginx as a plain reverse proxy: one worker, connections kept, streams not buffered."""
    port = free_port()
    servers = " ".join(f"server 127.0.0.1:{engine};" for engine in engines)
    paths = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    config = home / "nginx.conf"
    config.write_text(f"""
daemon off; worker_processes 1; error_log stderr; pid {home}/pid;
events {{ worker_connections 8192; }}
http {{
  access_log off; tcp_nodelay on; keepalive_requests 1000000000;
  {" ".join(f"{name}_temp_path {home}/{name};" for name in paths)}
  upstream engines {{ {servers} keepalive 1024; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://engines; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; client_max_body_size 16m; client_body_buffer_size 64k;
    }}
  }}
}}
""")
    command = [str(program), "-c", str(config), "-e", str(home / "error-log"), "-p", str(home)]
    with _running(command, home=home, cores=cores) as run:
        yield Proxy("nginx", port, None, run, home / "log")


@contextlib.contextmanager
def peer(home: Path, *, python: Path, engines: Sequence[int], cores: set[int]) -> Iterator[Proxy]:
    """vllm-router (Rust) with its cheapest policy, round robin."""
    port, metrics = free_port(), free_port()
    command = [str(python), "-m", "vllm_router.launch_router", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--prometheus-port", str(metrics), "--policy", "round_robin"]
    command += ["--worker-urls", *(f"http://127.0.0.1:{engine}" for engine in engines)]
    with _running(command, home=home, cores=cores) as run:
        yield Proxy("peer", port, None, run, home / "log")


def _listening(log: Path) -> Mapping[str, int]:
    """The ports that the router took, by its log."""
    told: list[Mapping[str, int]] = []

    def listens() -> bool:
        told.extend(
            json.loads(line) for line in log.read_text().splitlines() if '"listening"' in line
        )
        return bool(told)

    waiting.until(listens, seconds=_START_SECONDS, what="the router's ports", log=log)
    return told[0]


@contextlib.contextmanager
def _running(
    command: Sequence[str],
    *,
    home: Path,
    cores: set[int],
    environment: Mapping[str, str] | None = None,
) -> Iterator[psutil.Process]:
    own = os.sched_getaffinity(0)
    everything: dict[str, Any] = {**os.environ, "HOME": str(home), **(environment or {})}
    # NB: a process inherits the cores of its parent, and all its threads with it.
    os.sched_setaffinity(0, cores)
    try:
        with (home / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=everything)
    finally:
        os.sched_setaffinity(0, own)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
        process.kill()
        process.wait()
