"""Runs the contract: plans the cases, has each generation of GPUs probed by a process of its own, keeps the answers.

The answers are kept under a hash of everything that decides them, so that the table and the tests share one run.
"""

import concurrent.futures
import dataclasses
import hashlib
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from dev import locks, paths
from dev.environments import cuda
from tests.gpu import checkpoints, image, plan
from tests.gpu.cases import CASES
from tests.gpu.hardware import GPUS, generations

PROCESSES: Final = 2
"""Probes that run at once; each takes a core, and 3 GB of memory."""
TIMEOUT: Final = 900
"""Seconds; a probe takes about 50 s of CPU."""
_CLOSED_SITE: Final = "http://127.0.0.1:9/"
"""Nothing answers there, as in a cluster from which NVIDIA's server can't be reached."""
_DECIDES: Final = (
    "operator",
    "runtime",
    "tests/gpu",
    "tests/golden",
    "tests/support/given.py",
    "Dockerfile",
)
Report = Callable[[str, float], None]


class ProbeError(Exception):
    """A probe ended without an answer."""


@dataclasses.dataclass(frozen=True)
class Answers:
    """Findings by GPU and case."""

    found: Mapping[str, Mapping[str, Mapping[str, Any]]]
    seconds: float
    """Wall time of the run that found them."""
    cpu: float
    """Seconds of CPU of all its processes."""


def answers(*, report: Report) -> Answers:
    """Run the contract, unless nothing changed since it was run last."""
    cuda.build(report=report)
    kept = paths.cache() / "gpu-contract" / f"{_digest()}.json"
    kept.parent.mkdir(parents=True, exist_ok=True)
    with locks.held(kept.parent):
        if not kept.exists():
            found = _run(report)
            partial = kept.with_suffix(".partial")
            partial.write_text(json.dumps(dataclasses.asdict(found)))
            partial.rename(kept)
    return Answers(**json.loads(kept.read_text()))


def _digest() -> str:
    digest = hashlib.sha256(cuda.folder().name.encode())
    for name in _DECIDES:
        root = paths.REPOSITORY / name
        files = sorted(root.rglob("*")) if root.is_dir() else [root]
        for file in files:
            if file.suffix in (".py", ".c", ".yaml", "") and file.is_file():
                digest.update(str(file.relative_to(paths.REPOSITORY)).encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _run(report: Report) -> Answers:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gpu-contract-") as name:
        folder = Path(name)
        models = folder / "models"
        checkpoints.write(models)
        configs = plan.configs(models)
        samples = [each for each in configs if each.startswith("sample ")]
        wanted = {
            "configs": list(configs.items()),
            "cases": {
                gpu.key: [case.name for case in CASES if gpu in case.gpus] + samples for gpu in GPUS
            },
        }
        (folder / "plan.json").write_text(json.dumps(wanted))
        environment = _environment(folder)
        found: dict[str, Any] = {}
        cpu = 0.0
        with concurrent.futures.ThreadPoolExecutor(PROCESSES) as pool:
            jobs = {
                pool.submit(_probe, [gpu.key for gpu in gpus], folder, environment): gpus
                for gpus in generations()
            }
            for job in concurrent.futures.as_completed(jobs):
                answer = job.result()
                used = answer.pop("seconds of CPU")["all"]
                cpu += used
                found |= answer
                report(", ".join(gpu.key for gpu in jobs[job]), used)
    ordered = {gpu.key: found[gpu.key] for gpu in GPUS}
    return Answers(ordered, round(time.monotonic() - began, 1), round(cpu, 1))


def _environment(folder: Path) -> dict[str, str]:
    """Variables of a process in the image, whose caches and scratch folder lie in `folder`."""
    found = image.variables(image.install_driver(folder / "driver"))
    scratch = folder / "scratch"
    scratch.mkdir()
    root = paths.REPOSITORY
    return found | {
        "PYTHONPATH": f"{root / 'runtime'}:{root}",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "XDG_CACHE_HOME": str(scratch),
        "VLLM_CACHE_ROOT": str(scratch / "vllm"),
        "VLLM_LOGGING_LEVEL": "ERROR",
        "FLASHINFER_CUBINS_REPOSITORY": _CLOSED_SITE,
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
        "OMP_NUM_THREADS": "1",
    }


def _probe(keys: list[str], folder: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    command = [str(cuda.python()), "-m", "tests.gpu.probe", str(folder / "plan.json"), *keys]
    log = folder / f"{keys[0]}.log"
    with log.open("w") as errors:
        done = subprocess.run(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            timeout=TIMEOUT,
            check=False,
        )
    if done.returncode != 0:
        raise ProbeError(f"the probe of {', '.join(keys)} failed:\n{log.read_text()[-4000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found
