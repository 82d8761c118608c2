"""Process of the builder's environment that runs steps for tests: one JSON line in, one JSON line out.

Its libraries take seconds to import, so a module of tests shares one process.
"""

import json
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from slipstream_runtime.build.recipe import Samples, Step
from slipstream_runtime.build.steps import registry
from slipstream_runtime.build.steps.step import Checkpoint, Context, Tick
from slipstream_runtime.errors import EngineError
from slipstream_runtime.evaluate.quality import items


def checkpoint(folder: Path) -> Checkpoint:
    """Facts about a checkpoint of one file."""
    from safetensors import safe_open

    file = folder / "model.safetensors"
    with safe_open(file, "pt") as found:
        count = sum(_numel(found.get_slice(name).get_shape()) for name in found.keys())  # noqa: SIM118
    return Checkpoint(
        bytes=file.stat().st_size,
        parameters=count,
        config=json.loads((folder / "config.json").read_text()),
    )


def _numel(shape: list[int]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product


def _items(samples: Samples) -> tuple[items.Item, ...]:
    file = Path(samples.dataset.uri or "")
    found = items.parse(file.read_text().splitlines(), fields={}, source=str(file))
    return found[: samples.samples]


def _run(job: dict[str, Any]) -> dict[str, Any]:
    step = Step.model_validate(job["step"])
    module = registry.module(step.kind)
    source, target = Path(job["source"]), Path(job["target"])
    refusal = module.refuse(step, checkpoint(source), "cpu")
    if refusal and not job.get("force"):
        return {"refused": refusal}
    expected = module.estimate(step, checkpoint(source), "cpu")
    ticks: list[Tick] = []

    def progress(tick: Tick) -> None:
        ticks.append(tick)
        if job.get("exitAt") and tick.done >= job["exitAt"]:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGKILL)

    training = Path(job["training"])
    training.mkdir(parents=True, exist_ok=True)
    target.mkdir(parents=True)
    begin = time.monotonic()
    try:
        facts = module.run(
            step,
            source,
            target,
            Context(
                device="cpu",
                seed=job.get("seed", 0),
                items=_items,
                resolve=Path,
                training=training,
                progress=progress,
            ),
        )
    except EngineError as error:
        return {"error": error.reason, "code": error.exit_code}
    except Exception as error:
        traceback.print_exc()
        return {"raised": f"{type(error).__name__}: {error}"}
    return {
        "facts": dict(facts),
        "seconds": time.monotonic() - begin,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "estimate": {
            "memory": expected.memory,
            "disk": expected.disk,
            "seconds": expected.seconds,
        },
        "ticks": [[tick.done, tick.total, tick.loss] for tick in ticks],
    }


def main() -> None:
    """Answer lines until the input ends. Whatever libraries print goes to stderr."""
    out = sys.stdout
    sys.stdout = sys.stderr
    for line in sys.stdin:
        out.write(json.dumps(_run(json.loads(line))) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
