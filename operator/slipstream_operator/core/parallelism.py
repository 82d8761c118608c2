"""How one replica is spread over its accelerators: count = tensor x pipeline x data, whichever of them were given."""

import dataclasses

from slipstream_operator.api.engine import ParallelismSpec
from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason


@dataclasses.dataclass(frozen=True)
class Split:
    """Sizes of the three ways."""

    tensor: int = 1
    pipeline: int = 1
    data: int = 1

    @property
    def total(self) -> int:
        """Accelerators of one replica."""
        return self.tensor * self.pipeline * self.data


def split(spec: InferenceServiceSpec, *, on_cpu: bool) -> Split:
    """The sizes of a replica; PermanentError if they don't fit the count, which on CPU is of cores."""
    asked = spec.parallelism or ParallelismSpec()
    pipeline, data = asked.pipeline or 1, asked.data or 1
    count = None if on_cpu else _count(spec)
    if asked.tensor is not None or count is None:
        chosen = Split(asked.tensor or 1, pipeline, data)
    else:
        chosen = Split(max(count // (pipeline * data), 1), pipeline, data)
    if count is not None and count != chosen.total:
        raise PermanentError(
            Reason.INVALID_SPEC,
            f"spec.accelerator.count: {count} is not tensor x pipeline x data of spec.parallelism "
            f"({chosen.tensor} x {pipeline} x {data} = {chosen.total}): make them equal, or leave out count",
        )
    return chosen


def _count(spec: InferenceServiceSpec) -> int | None:
    """Only if it was said: else parallelism decides."""
    accelerator = spec.accelerator
    if accelerator is None or "count" not in accelerator.model_fields_set:
        return None
    return accelerator.count
