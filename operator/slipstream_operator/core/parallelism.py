"""Split of one replica over accelerators and nodes: count = tensor x pipeline x data."""

import dataclasses

from slipstream_operator.api.engine import ParallelismSpec
from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason


@dataclasses.dataclass(frozen=True)
class Split:
    """Sizes of tensor, pipeline and data parallelism, and the pods of a replica."""

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    nodes: int = 1

    @property
    def total(self) -> int:
        """Accelerators of one replica."""
        return self.tensor * self.pipeline * self.data


def split(spec: InferenceServiceSpec, *, dedicated: bool, has_model: bool = True) -> Split:
    """Return the sizes of a replica; PermanentError if they don't fit its count.

    The count is of devices if they are `dedicated` to a replica, else of cores.
    """
    section = spec.parallelism or ParallelismSpec()
    pipeline, data, nodes = section.pipeline or 1, section.data or 1, section.nodes or 1
    count = _count(spec) if dedicated else None
    if section.tensor is not None:
        tensor = section.tensor
    elif count is not None:
        tensor = max(count // (pipeline * data), 1)
    else:
        tensor = max(nodes // (pipeline * data), 1)
    chosen = Split(tensor, pipeline, data, nodes)
    if count is not None and count != chosen.total:
        raise PermanentError(
            Reason.INVALID_SPEC,
            f"spec.accelerator.count: {count} is not tensor x pipeline x data of spec.parallelism ({chosen.tensor} "
            f"x {pipeline} x {data} = {chosen.total}). Make them equal, or leave out count.",
        )
    _check_nodes(spec, chosen, cores=None if dedicated else _count(spec), has_model=has_model)
    return chosen


def cores(spec: InferenceServiceSpec, split: Split) -> int:
    """Return the cores of a replica on CPU, at least one for each of its pods."""
    return max(spec.accelerator.count if spec.accelerator else 1, split.nodes)


def tensor_field(spec: InferenceServiceSpec, split: Split) -> str:
    """Return the field that sets the tensor-parallel size."""
    named = spec.parallelism is not None and spec.parallelism.tensor is not None
    counts = split.pipeline == split.data == split.nodes == 1 and not named
    return "spec.accelerator.count" if counts else "spec.parallelism.tensor"


def _check_nodes(
    spec: InferenceServiceSpec, split: Split, *, cores: int | None, has_model: bool
) -> None:
    """Raise PermanentError for settings that a replica of several pods can't have."""
    nodes = split.nodes
    if nodes == 1:
        return
    problems = []
    if not has_model:
        problems.append(
            f"can't be used with runtime: {spec.runtime}, which has no model to split. Leave it out."
        )
    elif split.total % nodes:
        problems.append(
            f"can't work because tensor x pipeline ({split.tensor} x {split.pipeline}) can't be divided equally "
            "among the nodes. Use a number of nodes that divides it."
        )
    if cores is not None and cores % nodes:
        problems.append(
            f"can't work because accelerator.count ({cores} cores) can't be divided equally among the nodes. Use a "
            f"multiple of {nodes}."
        )
    if split.data > 1:
        problems.append(
            f"can't be used with data: {split.data}, whose engines each fit on one node. Leave out nodes or data."
        )
    if spec.model is not None and spec.model.adapters is not None:
        problems.append(
            "can't be used with spec.model.adapters, because only the leader's node would have them. Merge the "
            "adapter into the model, or leave out one of them."
        )
    if spec.cache is not None and spec.cache.offload is not None:
        problems.append(
            "can't be used with spec.cache.offload, because vLLM shares its memory only within one node. Leave "
            "out one of them."
        )
    if problems:
        raise PermanentError(
            Reason.UNSUPPORTED,
            " ".join(f"spec.parallelism.nodes: {nodes} {problem}" for problem in problems),
        )


def _count(spec: InferenceServiceSpec) -> int | None:
    """Return the count if the object sets it; otherwise parallelism determines it."""
    accelerator = spec.accelerator
    if accelerator is None or "count" not in accelerator.model_fields_set:
        return None
    return accelerator.count
