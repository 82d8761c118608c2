"""Progress of a running stage, which its threads update and the management server reads."""

import resource
import sys
import threading
from collections.abc import Callable
from typing import Any

from slipstream_runtime.build.steps.step import Tick
from slipstream_runtime.machine import memory
from slipstream_runtime.model_files.progress import Progress as Download


class Progress:
    """Finished and all units of work of one stage, with the time that is left."""

    def __init__(self, stage: str, *, clock: Callable[[], float]) -> None:
        self.stage = stage
        self.download = Download(clock=clock)
        """Bytes of the downloads of this stage."""
        self._clock = clock
        self._lock = threading.Lock()
        self._unit: str | None = None
        self._tick: Tick | None = None
        self._first: tuple[float, int] = (0.0, 0)
        self._bytes: int | None = None

    def step(self, tick: Tick) -> None:
        """Count the work inside a step."""
        self.count(tick, unit="steps")

    def count(self, tick: Tick, *, unit: str) -> None:
        """Count units of work. Another unit or total starts another measurement of the rate."""
        with self._lock:
            before = self._tick
            same = before is not None and before.total == tick.total and self._unit == unit
            if not same or (before is not None and tick.done < before.done):
                self._first = (self._clock(), tick.done)
            self._tick, self._unit = tick, unit

    def size(self, number: int) -> None:
        """Keep the bytes of the checkpoint that the stage works on."""
        self._bytes = number

    def status(self) -> dict[str, Any]:
        """Return what the operator shows; None is unknown."""
        with self._lock:
            tick, unit, (since, before) = self._tick, self._unit, self._first
        left: float | None = None
        if tick is None:
            done, total, unit = self.download.done, self.download.total, "bytes"
            if (rate := self.download.rate) and total is not None:
                left = (total - done) / rate
        else:
            done, total = tick.done, tick.total
            if tick.done > before:
                left = (self._clock() - since) / (tick.done - before) * (tick.total - tick.done)
        known = total is not None
        return {
            "stage": self.stage,
            "done": done if known else None,
            "total": total,
            "unit": unit if known else None,
            "etaSeconds": None if left is None else round(left, 1),
            "loss": tick.loss if tick else None,
            "peakMemory": peak_memory(),
            "bytes": self._bytes,
        }


def peak_memory() -> int:
    """Return the peak bytes of the accelerator if this process used one, else those of the largest process."""
    torch = sys.modules.get("torch")
    if torch is not None and getattr(torch, "cuda", None) and torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_allocated())
    # NB: an engine that measures a draft is a process of its own.
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return max(memory.peak(), children)
