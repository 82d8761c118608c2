"""Engines of the check as processes: Slipstream and bare vLLM, on the same model with the same settings."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from dev import paths
from slipstream_runtime import contract
from slipstream_runtime.web import sockets

NAME: Final = "check"
_POLL_SECONDS: Final = 0.2
_STOP_SECONDS: Final = 20.0


class StartError(Exception):
    """An engine ended before it answered; the message has its last words."""


@dataclass(frozen=True)
class Setup:
    """Settings that both engines share."""

    device: str
    model: Path
    max_length: int
    sequences: int | None = None
    """Sequences that run at once; None is vLLM's default for the device."""
    kv_bytes: int | None = None
    engine_args: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    """More of EngineConfig; for Slipstream's engine alone."""

    def slipstream(self) -> dict[str, Any]:
        """Return the EngineConfig."""
        cuda = self.device == "cuda"
        cache: dict[str, Any] = {"prefix": False, "compile": cuda}
        if self.kv_bytes is not None:
            cache["kvBytes"] = self.kv_bytes
        found: dict[str, Any] = {
            "model": {
                "uri": f"file://{self.model}",
                "name": NAME,
                "maxLength": self.max_length,
            },
            "device": self.device,
            "cache": cache,
            "limits": {"queue": 4096},
            "lingerSeconds": 1,
            "drainSeconds": 30,
            "engineArgs": dict(self.engine_args),
        }
        if self.sequences is not None:
            found["batching"] = {"maxSequences": self.sequences}
        if not cuda:
            found["cores"] = os.cpu_count()
        return {**found, **self.config}

    def bare(self) -> list[str]:
        """Return the arguments of vLLM's own API server."""
        words = ["--model", str(self.model), "--served-model-name", NAME]
        words += ["--max-model-len", str(self.max_length), "--no-enable-prefix-caching"]
        if self.sequences is not None:
            words += ["--max-num-seqs", str(self.sequences)]
        if self.kv_bytes is not None:
            words += ["--kv-cache-memory-bytes", str(self.kv_bytes)]
        if self.device == "cpu":
            words += ["--enforce-eager"]
        for name, value in self.engine_args.items():
            text = value if isinstance(value, str) else json.dumps(value)
            words.append(f"--{name}={text}")
        return words


@dataclass
class Engine:
    """A server that has answered; `management` is None for bare vLLM."""

    process: asyncio.subprocess.Process
    home: Path
    url: str
    metrics_url: str
    status_url: str | None
    seconds: float
    """Seconds from the start of the process to the first answer."""
    used_mib: float | None = None
    """Memory that it took from the device, or, on CPU, from the machine."""

    def metrics(self) -> str:
        """Return the page of metrics."""
        return _get(self.metrics_url).decode()

    def phases(self) -> dict[str, float]:
        """Return the seconds that each phase of its start took; empty for bare vLLM."""
        if self.status_url is None:
            return {}
        found: dict[str, float] = json.loads(_get(self.status_url))["phaseSeconds"]
        return found

    def log(self, characters: int = 3000) -> str:
        """Return the end of its log."""
        return (self.home / "log").read_text(errors="replace")[-characters:]

    def reason(self) -> str:
        """Return the reason that it left for the pod's status."""
        file = self.home / "termination-log"
        return file.read_text(errors="replace").strip() if file.exists() else ""


@contextlib.asynccontextmanager
async def slipstream(setup: Setup, home: Path, *, within: float) -> AsyncIterator[Engine]:
    """Run our engine process."""
    port, management = _free(), _free()
    command = [sys.executable, "-m", contract.ENGINE_MODULE, "--config", str(_write(setup, home))]
    command += ["--api-port", str(port), "--management-port", str(management)]
    command += ["--termination-log", str(home / "termination-log")]
    local = f"http://127.0.0.1:{management}"
    async with _running(
        command,
        home,
        port=port,
        metrics=local + contract.METRICS_PATH,
        status=local + contract.STATUS_PATH,
        within=within,
    ) as engine:
        yield engine


@contextlib.asynccontextmanager
async def bare(setup: Setup, home: Path, *, within: float) -> AsyncIterator[Engine]:
    """Run vLLM's own API server."""
    await asyncio.to_thread(home.mkdir, parents=True, exist_ok=True)
    port = _free()
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--port", str(port)]
    metrics = f"http://127.0.0.1:{port}{contract.METRICS_PATH}"
    async with _running(
        [*command, *setup.bare()], home, port=port, metrics=metrics, status=None, within=within
    ) as engine:
        yield engine


def used_mib() -> float | None:
    """Memory in use on the first GPU; None without one."""
    return _gpu("memory.used")


def total_mib() -> float | None:
    """Memory of the first GPU; None without one."""
    return _gpu("memory.total")


def descendants(pid: int) -> list[int]:
    """Return the processes below this one."""
    found = []
    for child in _children(pid):
        found += [child, *descendants(child)]
    return found


def alive(pids: Sequence[int]) -> int:
    """Count those that run; one that only waits to be reaped does not."""
    return sum(_state(pid) not in "ZX" for pid in pids)


def resident_mib(pid: int) -> float:
    """Memory of a process and of those below it in MiB, shared pages counted once."""
    total = 0
    for one in (pid, *descendants(pid)):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total / 1024


def core(pid: int) -> int:
    """Return the process that computes: vLLM names it, and where it does not it is the largest."""
    below = descendants(pid)
    named = [one for one in below if "EngineCore" in _name(one)]
    if named:
        return named[0]
    if not below:
        raise LookupError("the engine has no process that computes")
    return max(below, key=resident_mib)


@contextlib.asynccontextmanager
async def _running(
    command: Sequence[str],
    home: Path,
    *,
    port: int,
    metrics: str,
    status: str | None,
    within: float,
) -> AsyncIterator[Engine]:
    environment = {
        **os.environ,
        "HOME": str(home),
        "TMPDIR": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
    }
    before, began = used_mib(), time.monotonic()
    with (home / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdout=log,
            stderr=log,
            env=environment,
            cwd=paths.REPOSITORY,
            start_new_session=True,
        )
    engine = Engine(process, home, f"http://127.0.0.1:{port}", metrics, status, 0.0)
    try:
        await _until_it_answers(engine, within=within)
        engine.seconds = time.monotonic() - began
        after = used_mib()
        engine.used_mib = (
            after - before
            if after is not None and before is not None
            else resident_mib(process.pid)
        )
        yield engine
    finally:
        await _stop(process)


async def _until_it_answers(engine: Engine, *, within: float) -> None:
    body = json.dumps({"model": NAME, "prompt": [5, 6, 7], "max_tokens": 2}).encode()
    request = urllib.request.Request(
        f"{engine.url}/v1/completions", body, {"Content-Type": "application/json"}
    )

    def answers() -> bool:
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    deadline = time.monotonic() + within
    while not await asyncio.to_thread(answers):
        if engine.process.returncode is not None:
            raise StartError(engine.reason() or engine.log())
        if time.monotonic() > deadline:
            raise StartError(f"no answer within {within:.0f} s: {engine.log()}")
        await asyncio.sleep(_POLL_SECONDS)


async def _stop(process: asyncio.subprocess.Process) -> None:
    """End the engine and all that it started, which is a group of processes of its own."""
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _write(setup: Setup, home: Path) -> Path:
    home.mkdir(parents=True, exist_ok=True)
    file = home / "engine.json"
    file.write_text(json.dumps(setup.slipstream()))
    return file


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        content: bytes = answer.read()
        return content


def _gpu(field_: str) -> float | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, f"--query-gpu={field_}", "--format=csv,noheader,nounits", "--id=0"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    return float(done.stdout) if done.returncode == 0 else None


def _state(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return "X"


def _children(pid: int) -> list[int]:
    found = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(word) for word in file.read_text().split()]
    return found


def _name(pid: int) -> str:
    with contextlib.suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        return command + Path(f"/proc/{pid}/comm").read_text()
    return ""


def _free() -> int:
    with contextlib.closing(sockets.bind(0)) as bound:
        port: int = bound.getsockname()[1]
        return port
