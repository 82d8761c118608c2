"""Process of the builder's environment that runs steps for tests: one JSON line in, one JSON line out.

Its libraries take seconds to import, so a module of tests shares one process.
"""

import json
import os
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from slipstream_runtime.build import facts
from slipstream_runtime.build.recipe import Samples, Step
from slipstream_runtime.build.stages import step as stage
from slipstream_runtime.build.steps import registry
from slipstream_runtime.build.steps.step import Context, Tick
from slipstream_runtime.errors import EngineError
from slipstream_runtime.evaluate.quality import items
from slipstream_runtime.machine import memory


def _items(samples: Samples) -> tuple[items.Item, ...]:
    file = Path(samples.dataset.uri or "")
    found = items.parse(file.read_text().splitlines(), fields={}, source=str(file))
    return found[: samples.samples]


def _run(job: dict[str, Any]) -> dict[str, Any]:
    step = Step.model_validate(job["step"])
    module = registry.module(step.kind)
    source, target = Path(job["source"]), Path(job["target"])
    checkpoint = facts.stored(str(source), source)
    refusal = module.refuse(step, checkpoint, "cpu")
    if refusal and not job.get("force"):
        return {"refused": refusal}
    expected = module.estimate(step, checkpoint, "cpu")
    ticks: list[Tick] = []

    def progress(tick: Tick) -> None:
        ticks.append(tick)
        if tick.done / tick.total >= job.get("killAt", 2):
            os.kill(os.getpid(), signal.SIGKILL)

    training = Path(job["training"])
    training.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    stage._seed(0)
    context = Context(
        device="cpu", seed=0, items=_items, resolve=Path, training=training, progress=progress
    )
    begin = time.monotonic()
    try:
        found = module.run(step, source, target, context)
    except EngineError as error:
        return {"error": error.reason, "code": error.exit_code}
    except Exception as error:
        traceback.print_exc()
        return {"raised": f"{type(error).__name__}: {error}"}
    stage.carry(source, facts.files(source), target)
    return {
        "facts": dict(found),
        "seconds": time.monotonic() - begin,
        "peak": memory.peak(),
        "bytes": sum(path.stat().st_size for path in target.glob("*.safetensors")),
        "estimate": {
            "memory": expected.memory,
            "disk": expected.disk,
            "seconds": expected.seconds,
        },
        "ticks": [[tick.done, tick.total, tick.loss] for tick in ticks],
    }


def main() -> None:
    """Answer lines until the input ends. Output of the libraries goes to stderr."""
    out = sys.stdout
    sys.stdout = sys.stderr
    for line in sys.stdin:
        job = json.loads(line)
        out.write(json.dumps(_killed(job) if "killAt" in job else _run(job)) + "\n")
        out.flush()


def _killed(job: dict[str, Any]) -> dict[str, Any]:
    """Run a step in a process that dies by SIGKILL in the middle."""
    child = os.fork()
    if child == 0:
        _run(job)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return {"signal": os.WTERMSIG(status)}


if __name__ == "__main__":
    main()
