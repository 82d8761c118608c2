"""Check that a model can be split as requested and fits in memory, with proposals if not."""

import dataclasses
from collections.abc import Sequence
from typing import Final

from slipstream_operator.api import units
from slipstream_operator.api.servingprofile import Accelerator
from slipstream_operator.core.fit import demands, split
from slipstream_operator.core.fit.config_json import read
from slipstream_operator.core.fit.memory import (
    GIB,
    LEAST_RESERVE,
    Demand,
    Estimate,
    estimate,
    longest,
)
from slipstream_operator.core.parallelism import Split
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason

MOST_PER_NODE: Final = 8
"""Accelerators of a typical node, and the maximum tensor-parallel size that is proposed."""
SHORTEST_LENGTH: Final = 1024
"""Minimum context length that is proposed, in tokens."""


def check(demand: Demand, accelerators: Sequence[Accelerator]) -> None:
    """Raise PermanentError if the model can't be split as requested or does not fit. Unknown facts refuse nothing."""
    _check_split(demand)
    found = estimate(demand)
    if found is not None and found.impossible:
        raise PermanentError(Reason.DOES_NOT_FIT, _does_not_fit(demand, found, accelerators))


def _check_split(demand: Demand) -> None:
    architecture = demand.architecture
    if architecture is not None:
        found = split.problem(architecture, demand.split, expert_parallel=demand.expert_parallel)
        if found is not None:
            raise PermanentError(Reason.INVALID_PARALLELISM, _not_divisible(demand, found))
    drafter = read(demand.draft.config) if demand.draft else None
    if drafter is not None:
        found = split.problem(drafter, Split(tensor=demand.split.tensor))
        if found is not None:
            raise PermanentError(
                Reason.INVALID_PARALLELISM,
                f"spec.speculation.draft: can't be split over {demand.split.tensor} accelerators because "
                f"{found.replace('the model', 'the draft')}. Use another draft, or method: ngram.",
            )


def _not_divisible(demand: Demand, problem: str) -> str:
    """Return the refusal of a split, with sizes that work."""
    architecture, here, expert = demand.architecture, demand.split, demand.expert_parallel
    assert architecture is not None
    if here.pipeline > architecture.layer_count:
        return (
            f"spec.parallelism.pipeline: {here.pipeline} can't work because {problem}. "
            f"Use at most {architecture.layer_count}."
        )
    sizes = split.tensor_sizes(
        architecture, up_to=MOST_PER_NODE, data=here.data, expert_parallel=expert
    )
    if sizes:
        return (
            f"{demand.tensor_field}: {here.tensor} can't work because {problem}. "
            f"Use a tensor-parallel size of {_or(sizes)}."
        )
    others = [
        size
        for size in split.SIZES
        if size < here.data
        and split.problem(architecture, dataclasses.replace(here, data=size)) is None
    ]
    remedies = [f"data: {_or(others)}"] if others else []
    if not expert and split.problem(architecture, here, expert_parallel=True) is None:
        remedies.append("engineArgs.enable-expert-parallel: true")
    return (
        f"spec.parallelism.data: {here.data} can't work because {problem}. "
        f"Use {'; or '.join(remedies) or 'other sizes'}."
    )


def _does_not_fit(demand: Demand, found: Estimate, accelerators: Sequence[Accelerator]) -> str:
    request = found.request or 0
    needed = found.loaded + request + LEAST_RESERVE
    what = f"{_gib(found.weights)} of weights"
    if found.draft:
        what += f", {_gib(found.draft)} of the draft's weights"
    if found.adapters:
        what += f", {_gib(found.adapters)} of adapter slots"
    if request:
        what += f", {_gib(request)} of KV cache for one request of {found.max_length} tokens"
    proposals = fitting(demand, accelerators)
    remedy = "; or ".join(proposals) or "a smaller model, or an accelerator with more memory"
    return (
        f"{_sized(demand)} would need {_gib(needed)} ({what}, and {_gib(LEAST_RESERVE)} for the engine), and vLLM "
        f"can use {_gib(found.usable)} of {_gib(found.memory)}. Use {remedy}."
    )


def _sized(demand: Demand) -> str:
    """Return the start of a refusal, with the field that sets the number of accelerators."""
    here, field = demand.split, demand.tensor_field
    accelerators = f"{here.total} x {demand.accelerator}"
    if field.endswith(".count"):
        return f"{field}: {accelerators} can't work because each"
    return f"{field}: {here.tensor} can't work because each of {accelerators}"


def fitting(demand: Demand, accelerators: Sequence[Accelerator]) -> list[str]:
    """Return changes of single fields with which the service would fit."""
    proposals = []
    architecture = demand.architecture
    if architecture is None:
        return []

    def fits(**changes: object) -> bool:
        found = estimate(dataclasses.replace(demand, **changes))  # type: ignore[arg-type]
        return found is not None and not found.tight

    here = demand.split
    for size in split.tensor_sizes(
        architecture, up_to=MOST_PER_NODE, expert_parallel=demand.expert_parallel
    ):
        wider = dataclasses.replace(here, tensor=size)
        possible = split.problem(architecture, wider, expert_parallel=demand.expert_parallel)
        if demand.single:
            break
        if size > here.tensor and possible is None and fits(split=wider):
            proposals.append(
                f"accelerator.count: {wider.total}"
                if demand.tensor_field.endswith(".count")
                else f"parallelism.tensor: {size}"
            )
            break
    if not demand.fp8 and not architecture.quantized and fits(fp8=True):
        proposals.append("quantization.method: fp8")
    length = longest(demand)
    if length is not None and length >= SHORTEST_LENGTH and fits(max_length=length):
        proposals.append(f"model.maxLength: {length // SHORTEST_LENGTH * SHORTEST_LENGTH}")
    if demand.kv_bytes > 1 and fits(kv_bytes=1):
        proposals.append("quantization.kvCache: fp8")
    for other in accelerators:
        if other.name == demand.accelerator or other.memory is None:
            continue
        memory = int(units.quantity(other.memory))
        if fits(memory=memory, accelerator=other.name, utilization=demands.utilization(other)):
            proposals.append(f"accelerator.type: {other.name}")
            break
    if not proposals and not demand.single:
        for stages in (2, 3, 4, 8):
            deeper = Split(tensor=MOST_PER_NODE, pipeline=stages)
            if split.problem(architecture, deeper) is None and fits(split=deeper):
                proposals.append(
                    f"parallelism: {{tensor: {MOST_PER_NODE}, pipeline: {stages}, nodes: {stages}}}"
                )
                break
    return proposals


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"


def _or(sizes: Sequence[int]) -> str:
    *others, last = map(str, sizes or [1])
    return f"{', '.join(others)} or {last}" if others else last
