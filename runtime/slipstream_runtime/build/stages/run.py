"""Run of one stage: recipe, working folder and progress, with what earlier stages left."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from slipstream_runtime import contract
from slipstream_runtime.build import plan
from slipstream_runtime.build.progress import Progress
from slipstream_runtime.build.recipe import Recipe
from slipstream_runtime.build.workspace import Record, Workspace
from slipstream_runtime.errors import EngineError
from slipstream_runtime.machine import memory


@dataclass(frozen=True)
class Run:
    """One stage of a build."""

    recipe: Recipe
    stage: str
    workspace: Workspace
    progress: Progress

    def needed(self, stage: str) -> Record:
        """Return the record of an earlier stage; EngineError if it has not finished."""
        found = self.workspace.record(stage)
        if found is not None:
            return found
        former = self.workspace.former(stage)
        if former is not None and former.is_changed():
            what = "spec.source" if stage == contract.SOURCE_STAGE else f"the checkpoint of {stage}"
            raise EngineError(
                f"{self.stage}: {what} has changed since the build started. The next run starts again with its present "
                "content."
            )
        raise EngineError(
            f"{self.stage}: the stage {stage} has not finished in {self.workspace.root}. Run it first."
        )

    @property
    def source(self) -> Record:
        """Record of the source."""
        return self.needed(contract.SOURCE_STAGE)

    def before(self, index: int) -> Record:
        """Return the record of the checkpoint that the step reads."""
        if index == 0:
            return self.source
        return self.needed(contract.step_stage(index - 1, self.recipe.steps[index - 1].kind))

    def machine(self) -> plan.Machine:
        """Return the room that this stage has."""
        limit = self.recipe.memory
        if limit is None and self.recipe.device == "cpu":
            limit = memory.limit()
        return plan.Machine(memory=limit, disk=free(self.workspace.root))


def free(folder: Path) -> int:
    """Return the free bytes of the disk that holds the folder, which need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
