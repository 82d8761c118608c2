"""Plan of a service: what its replicas hold and cost, and what to know before they are bought."""

import dataclasses
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from slipstream_operator.api.base import camel
from slipstream_operator.core.fit import verdict
from slipstream_operator.core.fit.memory import GIB, Demand, Estimate, estimate
from slipstream_operator.core.resolved import Resolved


@dataclasses.dataclass(frozen=True)
class Plan:
    """Memory, cost and arguments of a service that would be accepted."""

    accelerators: str
    """Type and count of one replica."""
    memory: Estimate | None
    """Memory of the fullest accelerator; None if too little is known."""
    engines: int
    """Engines of one replica, each with a KV cache of its own."""
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


def of(resolved: Resolved, *, arguments: Sequence[str] = (), knows_model: bool = True) -> Plan:
    """Return the plan of a service that was accepted."""
    memory = estimate(resolved.demand) if resolved.demand else None
    bounds, cost = resolved.bounds, resolved.hourly_cost
    return Plan(
        accelerators=resolved.accelerator,
        memory=memory,
        engines=resolved.demand.split.data if resolved.demand else 1,
        minimum=bounds.minimum,
        maximum=bounds.maximum,
        cost=(cost * bounds.minimum, cost * bounds.maximum) if cost is not None else None,
        arguments=tuple(arguments),
        warnings=tuple(_warnings(resolved, memory, knows_model=knows_model)),
    )


def plain(plan: Plan) -> dict[str, Any]:
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
            f"engineArgs.{demand.unchecked} changes what an accelerator holds, so its memory was not checked"
        )
    elif not knows_model or demand.architecture is None:
        found.append(
            "the model's configuration is not known, so nothing of its size was checked: name it with --config or "
            "--model"
        )
    elif demand.memory is None:
        found.append(
            "the profile's accelerator has no memory, so only the split was checked: set accelerators[].memory"
        )
    elif memory is None and demand.unchecked is None:
        found.append("the size of the weights is not known: name the model's folder with --model")
    if memory is not None and memory.tight:
        short = max(memory.request or 0, 1) - memory.kv
        found.append(
            f"it may not start: by estimate, {short / GIB:.1f} GiB of an accelerator are lacking for the KV cache of "
            f"one request of {memory.max_length} tokens{_remedy(demand)}"
        )
    if memory is not None and memory.request is None:
        found.append("the KV cache of this kind of model can't be computed here")
    if demand.draft is not None and demand.draft.config is None:
        found.append(
            "the draft's configuration is not known, so its memory was not counted: name it with --draft-config"
        )
    if demand.kv_bytes == 1:
        found.append(
            "kvCache: fp8 lets vLLM compile FlashInfer kernels when an engine first starts on A100, L4 and Blackwell: "
            "keep them in a cache claim (spec.cache.model)"
        )
    architecture = demand.architecture
    if architecture is not None and architecture.block is not None:
        found.append(
            "this checkpoint's fp8 blocks let vLLM compile DeepGEMM kernels when an engine first starts on Hopper and "
            "Blackwell: keep them in a cache claim (spec.cache.model)"
        )
    if architecture is not None and architecture.quantized and demand.fp8:
        found.append(
            f"quantization.method: fp8 has no effect: the checkpoint is {architecture.quantization} already"
        )
    return found


def _remedy(demand: Demand) -> str:
    proposals = verdict.fitting(demand, ())
    return f"; use {'; or '.join(proposals)}" if proposals else ""
