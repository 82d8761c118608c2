"""Views of a fleet for tests of scaling policies, and a clock that drives a policy."""

from collections.abc import Callable, Mapping, Sequence

from slipstream_operator.core.objectives import Objective, Objectives
from slipstream_operator.core.scaling.metrics.values import Sample, Unknown
from slipstream_runtime.simulator import model
from slipstream_simulator.policy import FleetView, Pod, Policy

TTFT = Objective("ttft", "p95", 1.0, "1s")
TPOT = Objective("tpot", "p95", 0.04, "40ms")
OBJECTIVES = Objectives((TTFT, TPOT))
ENGINE = model.Parameters(gamma=45e-9, kv_tokens=120_000, max_batched_tokens=8192)
AWAY = Unknown("Prometheus does not answer")

Result = Sequence[Sample] | Unknown


def pods(ready: int, *, starting: int = 0, unscheduled: int = 0) -> tuple[Pod, ...]:
    """Pods `p0`, `p1`, ..: the ready ones, then those that start, then those without a node."""
    total = ready + starting + unscheduled
    return tuple(
        Pod(
            name=f"p{index}",
            created=0.0,
            ready=index < ready,
            ready_at=0.0 if index < ready else None,
            terminating=False,
            scheduled=index < ready + starting,
        )
        for index in range(total)
    )


def view(
    replicas: int,
    samples: Mapping[str, Result],
    *,
    now: float = 0.0,
    of: tuple[Pod, ...] | None = None,
    minimum: int = 1,
    maximum: int = 32,
) -> FleetView:
    """Everything ready unless `of` says otherwise."""
    return FleetView(
        now=now,
        replicas=replicas,
        pods=pods(replicas) if of is None else of,
        samples=samples,
        minimum=minimum,
        maximum=maximum,
        objectives=OBJECTIVES,
    )


def by_pod(*values: float) -> list[Sample]:
    """One sample of each of `p0`, `p1`, .."""
    return [Sample({"pod": f"p{index}"}, value) for index, value in enumerate(values)]


def number(value: float) -> list[Sample]:
    """What a sum over all returns."""
    return [Sample({}, value)]


def driven(
    policy: Policy,
    samples: Callable[[float, int], Mapping[str, Result]],
    *,
    replicas: int,
    until: float,
    start: float = 0.0,
    minimum: int = 1,
    maximum: int = 32,
) -> list[int]:
    """The counts that it asks for from `start` on, `until` excluded; what is asked for is ready at its next tick."""
    counts, now = [], start
    while now < until:
        look = view(replicas, samples(now, replicas), now=now, minimum=minimum, maximum=maximum)
        replicas = policy.decide(look)
        counts.append(replicas)
        now += policy.every
    return counts
