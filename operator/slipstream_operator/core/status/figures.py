"""Figures of a service's status: objectives, scaling and engines."""

from collections.abc import Mapping, Sequence
from typing import Final

from slipstream_operator.api import units
from slipstream_operator.api.status import (
    BatchSpeculationStatus,
    BuildSourceStatus,
    EngineStatus,
    ObjectiveStatus,
    ProfileStatus,
    ScalingStatus,
)
from slipstream_operator.core import profile as profiles
from slipstream_operator.core.objectives import Objective, budget_remaining
from slipstream_operator.core.observed import ObservedPod
from slipstream_operator.core.resolved import Resolved
from slipstream_operator.core.scaling.metrics.values import Load, Reading, Unknown
from slipstream_operator.core.scaling.state import Decision, State
from slipstream_operator.core.status.outcome import Measured, Outcome

_SHOWN_SHARE: Final = 0.01
"""Smallest share of a cause that the status shows."""
_IMAGES: Final = 4
"""Digests that the status lists; a change of the image leaves two."""


def objectives(outcome: Outcome) -> list[ObjectiveStatus]:
    """Return each objective with its measurement."""
    if outcome.resolved is None:
        return []
    measured = outcome.measured
    readings = measured.readings if measured else Unknown("There are no measurements yet.")
    by_name = (
        {}
        if isinstance(readings, Unknown)
        else {reading.objective.name: reading for reading in readings}
    )
    entries = [
        _objective(objective, by_name.get(objective.name))
        for objective in outcome.resolved.objectives.latency
    ]
    throughput = outcome.resolved.objectives.throughput
    if throughput is not None:
        load = measured.load if measured else None
        entries.append(
            ObjectiveStatus(
                objective="throughput",
                metric="throughput",
                target=f"{throughput}/s",
                current=f"{load.tokens_per_second:.0f}/s" if isinstance(load, Load) else None,
            )
        )
    return entries


def _objective(objective: Objective, reading: Reading | None) -> ObjectiveStatus:
    attained = reading.attainment if reading else {}
    over_a_day = attained.get("1d")
    return ObjectiveStatus(
        objective=objective.name,
        metric=objective.metric,
        percentile=objective.percentile,
        target=objective.text,
        current=units.format_seconds(reading.current)
        if reading and reading.current is not None
        else None,
        attainment5m=_percent(attained.get("5m")),
        attainment1h=_percent(attained.get("1h")),
        budget_remaining=None
        if over_a_day is None
        else _percent(budget_remaining(objective.share, over_a_day)),
    )


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share * 100:.1f}%"


def scaling(outcome: Outcome) -> ScalingStatus | None:
    """Return the last decision and its measurements."""
    decision, state = outcome.decision, outcome.state
    if decision is None or state is None:
        return None
    return ScalingStatus(
        desired=decision.desired,
        reason=decision.reason[:1024],
        since=units.timestamp(state.since),
        inputs=_inputs(outcome, decision),
        model=_model(state),
        cold_start=f"{state.cold.p90:.0f}s" if state.cold.known else None,
        limited=decision.limited or _capped(outcome, decision),
    )


def _capped(outcome: Outcome, decision: Decision) -> str | None:
    """Return the quota that keeps the service from more replicas, if it does."""
    resolved = outcome.resolved
    if resolved is None or resolved.share is None or decision.desired < resolved.bounds.maximum:
        return None
    return resolved.share.capped


def _inputs(outcome: Outcome, decision: Decision) -> str | None:
    """Return the measurements that the decision is based on, as `name=value`."""
    load = outcome.measured.load if outcome.measured else None
    if not isinstance(load, Load):
        return None
    parts = [
        f"inFlight={load.in_flight:.0f} waiting={load.waiting:.0f} kv={load.kv_usage:.0%}",
        f"tokensPerSecond={load.tokens_per_second:.0f}",
    ]
    if (numbers := decision.numbers) is not None:
        parts += [
            f"requestsPerSecond={numbers.requests:.1f} work={numbers.work:.2f}",
            f"utilization={numbers.utilization:.0%} need={numbers.need} ready={numbers.ready}",
            f"starting={numbers.starting} horizon={numbers.horizon:.0f}s",
        ]
    return " ".join(parts)


def _model(state: State) -> str | None:
    """Return the learned step time in short, or the learned concurrency of one replica."""
    fitted = state.model.coefficients
    if fitted is None:
        return None if state.concurrency is None else f"concurrency={state.concurrency:.1f}"
    corrections = "".join(
        f" {metric}x{factor:.2f}" for metric, factor in sorted(state.feedback.corrections.items())
    )
    return (
        f"step={fitted.alpha * 1e3:.2f}ms +{fitted.beta * 1e6:.1f}us/request "
        f"+{fitted.gamma * 1e9:.1f}ns/kvToken +{fitted.delta * 1e6:.1f}us/promptToken "
        f"(1 sd {state.model.uncertainty:.0%}) kappa={state.feedback.kappa:.2f}{corrections}"
    )


def engine(outcome: Outcome, *, serving: Sequence[ObservedPod]) -> EngineStatus | None:
    """Return a summary of the resolved engine configuration."""
    resolved, measured = outcome.resolved, outcome.measured
    if resolved is None:
        return None
    return EngineStatus(
        runtime=resolved.runtime,
        accelerator=resolved.accelerator,
        quantization=resolved.quantization,
        speculation=resolved.speculation,
        speculation_disabled=resolved.speculation_disabled,
        acceptance=_percent(measured.draft_tokens.acceptance)
        if measured and measured.draft_tokens
        else None,
        speculation_gain=_gain(resolved, measured),
        speculation_by_batch=_by_batch(measured),
        speculation_loss=measured.loss if measured else None,
        max_length=resolved.max_length,
        kv_capacity_tokens=measured.kv_capacity if measured else None,
        adapters=_adapters(resolved.adapters, measured.adapters if measured else {}),
        image_digest=", ".join(sorted({pod.image for pod in serving if pod.image})[:_IMAGES])
        or None,
    )


def profile(outcome: Outcome) -> ProfileStatus | None:
    """Return where time goes; None if nothing was measured."""
    resolved, measured = outcome.resolved, outcome.measured
    if resolved is None or measured is None or measured.profile is None:
        return None
    found = measured.profile
    learned = outcome.state.model.coefficients if outcome.state is not None else None
    step = profiles.step(found, resolved.roofline, learned)
    status = ProfileStatus(
        ttft=_shares(profiles.shares(found.first)),
        e2e=_shares(profiles.shares(found.whole)),
        steps=_steps(found),
        batch=_batch(found),
        kv=None if found.kv is None else f"{found.kv:.0%}",
        decode=_step(step),
        bottleneck=profiles.bottleneck(found, step),
    )
    return status if status.model_fields_set and any(status.model_dump().values()) else None


def _shares(found: Mapping[str, float]) -> str | None:
    """Return the causes with a share of 1% at least."""
    shown = [f"{cause} {share:.0%}" for cause, share in found.items() if share >= _SHOWN_SHARE]
    return ", ".join(shown) or None


def _steps(found: profiles.Profile) -> str | None:
    kinds = {"prefill": found.prefill, "decode": found.decode}
    seconds = {name: kind.seconds for name, kind in kinds.items() if kind is not None}
    total = sum(seconds.values())
    if not total:
        return None
    return ", ".join(f"{name} {part / total:.0%}" for name, part in seconds.items())


def _batch(found: profiles.Profile) -> str | None:
    if found.batch is None:
        return None
    if found.sequences is None or found.occupancy is None:
        return f"{found.batch:.1f}"
    return f"{found.batch:.1f} of {found.sequences} ({found.occupancy:.0%})"


def _step(step: profiles.Step | None) -> str | None:
    if step is None:
        return None
    took = f"{step.seconds * 1e3:.3g} ms"
    if step.least is None:
        return f"{took}; the shortest time is unknown because {step.unknown}"
    return f"{took}; at least {step.least * 1e3:.3g} ms by {step.bound}"


def builds(outcome: Outcome) -> list[BuildSourceStatus]:
    """Return the fields that name builds, with the artifacts in use."""
    if outcome.resolved is None:
        return []
    return [
        BuildSourceStatus(
            field=source.field, build=source.build, artifact=source.uri, digest=source.digest
        )
        for source in outcome.resolved.builds
    ]


def _gain(resolved: Resolved, measured: Measured | None) -> str | None:
    """Return the gain of speculation: "unknown" where it is not measured, as on GPUs; None without speculation."""
    if measured is None:
        return None
    if measured.gain is not None:
        return f"{measured.gain:.2f}"
    return None if resolved.speculation is None else "unknown"


def _by_batch(measured: Measured | None) -> list[BatchSpeculationStatus] | None:
    if measured is None or not measured.by_batch:
        return None
    return [
        BatchSpeculationStatus(
            batch=_batches(one.batch),
            tokens=f"{one.tokens:.1f}".removesuffix(".0"),
            gain="unknown" if one.gain is None else f"{one.gain:.2f}",
        )
        for one in measured.by_batch
    ]


def _batches(largest: int) -> str:
    """Return the range of a group of batch sizes, whose smallest one is just above half of the largest."""
    smallest = largest // 2 + 1
    return f"{largest}" if smallest >= largest else f"{smallest}-{largest}"


def _adapters(listed: Mapping[str, str] | None, loaded: Mapping[str, bool]) -> str | None:
    """Return the adapters that are loaded, then the others."""
    if not listed:
        return None
    ready = [name for name in listed if loaded.get(name)]
    failed = [name for name in listed if loaded.get(name) is False]
    coming = [name for name in listed if name not in loaded]
    groups = (("", ready), ("not loaded: ", failed), ("not known yet: ", coming))
    return "; ".join(f"{what}{', '.join(members)}" for what, members in groups if members)[:1024]
