"""Spread of one replica over accelerators and nodes: count = tensor x pipeline x data, whichever were given."""

import dataclasses

from slipstream_operator.api.engine import ParallelismSpec
from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason


@dataclasses.dataclass(frozen=True)
class Split:
    """Sizes of the three ways, and the pods that they are spread over."""

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
    asked = spec.parallelism or ParallelismSpec()
    pipeline, data, nodes = asked.pipeline or 1, asked.data or 1, asked.nodes or 1
    count = _count(spec) if dedicated else None
    if asked.tensor is not None:
        tensor = asked.tensor
    elif count is not None:
        tensor = max(count // (pipeline * data), 1)
    else:
        tensor = max(nodes // (pipeline * data), 1)
    chosen = Split(tensor, pipeline, data, nodes)
    if count is not None and count != chosen.total:
        raise PermanentError(
            Reason.INVALID_SPEC,
            f"spec.accelerator.count: {count} is not tensor x pipeline x data of spec.parallelism "
            f"({chosen.tensor} x {pipeline} x {data} = {chosen.total}): make them equal, or leave out count",
        )
    _check_nodes(spec, chosen, cores=None if dedicated else _count(spec), has_model=has_model)
    return chosen


def cores(spec: InferenceServiceSpec, split: Split) -> int:
    """Return the cores of a replica on CPU, at least one for each of its pods."""
    return max(spec.accelerator.count if spec.accelerator else 1, split.nodes)


def tensor_field(spec: InferenceServiceSpec, split: Split) -> str:
    """Return the field that the tensor-parallel size follows from."""
    named = spec.parallelism is not None and spec.parallelism.tensor is not None
    counts = split.pipeline == split.data == split.nodes == 1 and not named
    return "spec.accelerator.count" if counts else "spec.parallelism.tensor"


def _check_nodes(
    spec: InferenceServiceSpec, split: Split, *, cores: int | None, has_model: bool
) -> None:
    """Refuse what a replica of several pods can't do."""
    nodes = split.nodes
    if nodes == 1:
        return
    problems = []
    if not has_model:
        problems.append(
            f"can't be used with runtime: {spec.runtime}, which has no model to spread: leave it out"
        )
    elif split.total % nodes:
        problems.append(
            f"can't work because tensor x pipeline ({split.tensor} x {split.pipeline}) can't be shared equally: "
            "use a number of nodes that divides it"
        )
    if cores is not None and cores % nodes:
        problems.append(
            f"can't work because accelerator.count ({cores} cores) can't be shared equally: use a multiple of {nodes}"
        )
    if split.data > 1:
        problems.append(
            f"can't be used with data: {split.data}, whose engines each fit on a node: leave out nodes, or data"
        )
    if spec.model is not None and spec.model.adapters is not None:
        problems.append(
            "can't be used with spec.model.adapters, which only the leader's node would have: merge the adapter into "
            "the model, or leave out one of them"
        )
    if spec.cache is not None and spec.cache.offload is not None:
        problems.append(
            "can't be used with spec.cache.offload, whose memory vLLM shares inside one node: leave out one of them"
        )
    if problems:
        raise PermanentError(
            Reason.UNSUPPORTED,
            "; ".join(f"spec.parallelism.nodes: {nodes} {problem}" for problem in problems),
        )


def _count(spec: InferenceServiceSpec) -> int | None:
    """Only if it was said: else parallelism decides."""
    accelerator = spec.accelerator
    if accelerator is None or "count" not in accelerator.model_fields_set:
        return None
    return accelerator.count
