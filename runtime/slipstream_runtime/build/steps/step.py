"""Interface between the stages of a build and its steps."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from slipstream_runtime import build_support
from slipstream_runtime.build.recipe import Samples, Step
from slipstream_runtime.evaluate.quality.items import Item


@dataclass(frozen=True, slots=True)
class Tick:
    """Progress inside a step."""

    done: int
    total: int
    loss: float | None = None
    """Training loss of the newest batch; None where nothing is trained."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Expected cost of a step. Each value states its formula where it is computed."""

    memory: int
    """Peak bytes of the accelerator, or of the process on CPUs."""
    disk: int
    """Bytes in the working folder while the step runs."""
    seconds: float
    note: str | None = None
    """Sentences that a plan shows beside the cost, such as on hardware that a step is made for."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Facts about a checkpoint without loading it."""

    bytes: int
    """Bytes of its weights."""
    parameters: int
    config: Mapping[str, Any]
    """Content of config.json."""


@dataclass(frozen=True, slots=True)
class Context:
    """Environment of a running step. Results depend on nothing else, so that a build is repeatable."""

    device: build_support.Device
    seed: int
    items: Callable[[Samples], tuple[Item, ...]]
    """Loads the drawn items of a dataset; UnsuitableError names bad lines by number."""
    resolve: Callable[[str], Path]
    """Downloads a checkpoint by URI, such as a student's, and returns its folder."""
    training: Path
    """Folder of checkpoints inside this step. It survives a killed run."""
    progress: Callable[[Tick], None]


class Module(Protocol):
    """Functions of a step's module."""

    def refuse(self, step: Step, source: Checkpoint, device: build_support.Device) -> str | None:
        """Return the reason why the step can't run here, as `field: "value" can't work because ... Remedy.`"""

    def estimate(self, step: Step, source: Checkpoint, device: build_support.Device) -> Estimate:
        """Return the expected cost."""

    def run(self, step: Step, source: Path, target: Path, context: Context) -> Mapping[str, Any]:
        """Write the checkpoint to the empty folder `target`; return facts for the report, as plain JSON.

        EngineError says that another run may succeed, UnsuitableError that none can.
        """
