"""Capacity plan of a service: memory, cost and warnings before nodes are provisioned."""

import dataclasses
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from slipstream_operator.api.base import camel
from slipstream_operator.core.fit import verdict
from slipstream_operator.core.fit.memory import GIB, Demand, Estimate, estimate
from slipstream_operator.core.resolved import Resolved


@dataclasses.dataclass(frozen=True)
class CapacityPlan:
    """Memory, cost and arguments of a service that would be accepted."""

    accelerators: str
    """Type and count of one replica."""
    memory: Estimate | None
    """Memory of the fullest accelerator; None if too little is known."""
    engines: int
    """Engines of one replica, each with its own KV cache."""
    minimum: int
    maximum: int
    cost: tuple[Decimal, Decimal] | None
    """Cost per hour of the fewest and of the most replicas; None if the profile names none."""
    arguments: tuple[str, ...]
    """Command line of vLLM; empty for another runtime."""
    warnings: tuple[str, ...]

    @property
    def kv_tokens(self) -> int | None:
        """Tokens that the KV caches of a replica hold."""
        tokens = self.memory.tokens if self.memory else None
        return None if tokens is None else tokens * self.engines

    @property
    def concurrency(self) -> float | None:
        """Requests of the greatest length that a replica runs at once."""
        each = self.memory.concurrency if self.memory else None
        return None if each is None else each * self.engines


def of(
    resolved: Resolved, *, arguments: Sequence[str] = (), knows_model: bool = True
) -> CapacityPlan:
    """Return the plan of a service that was accepted."""
    memory = estimate(resolved.demand) if resolved.demand else None
    bounds, cost = resolved.bounds, resolved.hourly_cost
    return CapacityPlan(
        accelerators=resolved.accelerator,
        memory=memory,
        engines=resolved.demand.split.data if resolved.demand else 1,
        minimum=bounds.minimum,
        maximum=bounds.maximum,
        cost=(cost * bounds.minimum, cost * bounds.maximum) if cost is not None else None,
        arguments=tuple(arguments),
        warnings=tuple(_warnings(resolved, memory, knows_model=knows_model)),
    )


def plain(plan: CapacityPlan) -> dict[str, Any]:
    """Return the plan as plain data, for programs."""
    memory = plan.memory
    return {
        "fits": True,
        "tight": memory is not None and memory.tight,
        "known": memory is not None,
        "accelerators": plan.accelerators,
        "memory": {camel(name): size for name, size in _sizes(memory)} if memory else None,
        "kvTokens": plan.kv_tokens,
        "concurrency": None if plan.concurrency is None else round(plan.concurrency, 2),
        "replicas": {"min": plan.minimum, "max": plan.maximum},
        "costPerHour": {"min": str(plan.cost[0]), "max": str(plan.cost[1])} if plan.cost else None,
        "engineArguments": list(plan.arguments),
        "warnings": list(plan.warnings),
    }


def _sizes(memory: Estimate) -> list[tuple[str, int | None]]:
    return [*dataclasses.asdict(memory).items(), ("kv", memory.kv)]


def _warnings(resolved: Resolved, memory: Estimate | None, *, knows_model: bool) -> list[str]:
    demand = resolved.demand
    found = []
    if resolved.share is not None and resolved.share.capped is not None:
        found.append(resolved.share.capped)
    if demand is None:
        return found
    if demand.unchecked is not None:
        found.append(
            f"engineArgs.{demand.unchecked} changes the memory of an accelerator, so the memory was not checked."
        )
    elif not knows_model or demand.architecture is None:
        found.append(
            "The model's configuration is not known, so its size was not checked. Set --config or --model."
        )
    elif demand.memory is None:
        found.append(
            "The profile does not state the accelerator's memory, so only the split was checked. Set "
            "accelerators[].memory."
        )
    elif memory is None and demand.unchecked is None:
        found.append("The size of the weights is not known. Set --model to the model's folder.")
    if memory is not None and memory.tight:
        short = max(memory.request or 0, 1) - memory.kv
        found.append(
            f"The engine may not start: an estimated {short / GIB:.1f} GiB of accelerator memory is missing for "
            f"the KV cache of one request of {memory.max_length} tokens.{_remedy(demand)}"
        )
    if memory is not None and memory.request is None:
        found.append("The size of the KV cache can't be computed for this kind of model.")
    if demand.draft is not None and demand.draft.config is None:
        found.append(
            "The draft's configuration is not known, so its memory was not counted. Set --draft-config."
        )
    if demand.kv_bytes == 1:
        found.append(
            "With kvCache: fp8 vLLM compiles FlashInfer kernels at the first start of an engine on A100, L4 and "
            "Blackwell. Keep them in a cache claim (spec.cache.model)."
        )
    architecture = demand.architecture
    if architecture is not None and architecture.block is not None:
        found.append(
            "With this checkpoint's fp8 blocks vLLM compiles DeepGEMM kernels at the first start of an engine on "
            "Hopper and Blackwell. Keep them in a cache claim (spec.cache.model)."
        )
    if architecture is not None and architecture.quantized and demand.fp8:
        found.append(
            f"quantization.method: fp8 has no effect: the checkpoint is already {architecture.quantization}."
        )
    return found


def _remedy(demand: Demand) -> str:
    proposals = verdict.fitting(demand, ())
    return f" Use {'; or '.join(proposals)}." if proposals else ""
