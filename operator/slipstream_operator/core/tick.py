"""Scaling of one service: a tick decides from measurements, a reconcile in between from the bounds alone.

Nothing here changes a value: each function returns the next one, and `shell.service_states` is where it is stored.
"""

import dataclasses
import enum
from typing import Final, NamedTuple

from slipstream_operator import names
from slipstream_operator.api import units
from slipstream_operator.core import activation, profile, speculation, wording
from slipstream_operator.core.activation import Renewal
from slipstream_operator.core.observed import Key, Observed, ObservedPod
from slipstream_operator.core.resolved import Resolved
from slipstream_operator.core.revisions import Rollout
from slipstream_operator.core.scaling import inputs, persistence, policy, steady_state
from slipstream_operator.core.scaling.bounds import Bounds
from slipstream_operator.core.scaling.inputs import Inputs, Settings
from slipstream_operator.core.scaling.metrics import signals
from slipstream_operator.core.scaling.metrics.query_results import ServiceResults
from slipstream_operator.core.scaling.metrics.values import Load, Reading, Unknown
from slipstream_operator.core.scaling.state import Decision, State
from slipstream_operator.core.scaling.steady_state import SteadyState
from slipstream_operator.core.scaling.supply import PodStatus
from slipstream_operator.core.speculation import SwitchedOff
from slipstream_operator.core.status.outcome import Measured
from slipstream_operator.names import Reason

CLOCK_SECONDS: Final = 60.0
"""Seconds by which the clocks of two machines may differ: more than between machines that synchronize their clocks."""


@dataclasses.dataclass(frozen=True, slots=True)
class Scaling:
    """State of a service's scaling between two ticks. Times are seconds on the monotonic clock."""

    state: State | None = None
    """State of the policy; None before the first reconcile."""
    decision: Decision | None = None
    measured: Measured | None = None
    steady_state: SteadyState | None = None
    """None while anything changes."""
    active_engines: int | None = None
    """Data-parallel engines of one replica of the active revision; None before a revision was active."""
    disabled_speculation: SwitchedOff | None = None
    """Speculation that was disabled because it doesn't pay off."""
    low_acceptance_since: float | None = None
    """Start of the time in which too few draft tokens were accepted."""
    low_gain_since: float | None = None
    """Start of the time in which the gain of speculation is below its limit."""
    speculation_loss_since: float | None = None
    """Start of the time in which speculation gains nothing."""
    summary: tuple[object, ...] | None = None
    """Values that the last immediate reconcile was requested for."""


class Service(NamedTuple):
    """Service as its last reconcile resolved it, and its pods of all revisions."""

    key: Key
    resolved: Resolved
    rollout: Rollout
    pods: tuple[ObservedPod, ...]


class Moment(NamedTuple):
    """One moment on two clocks."""

    wall: float
    """Seconds since the epoch."""
    monotonic: float


class Changes(enum.Enum):
    """Changes that a tick made, by how soon a reconcile must act on them."""

    NONE = enum.auto()
    MINOR = enum.auto()
    """Figures in status are a little older than they could be."""
    MAJOR = enum.auto()
    """The replica count, a condition or the speculation is another one: reconcile at once."""


def tick(
    results: ServiceResults | Unknown, scaling: Scaling, service: Service, *, moment: Moment
) -> tuple[Scaling, Changes]:
    """Return the next state of a service's scaling, and how much of it changed."""
    resolved, rollout, before = service.resolved, service.rollout, scaling.state
    assert before is not None
    profiled = _profile(scaling, results, revision=rollout.active)
    if scaling.measured is not None and profiled is not scaling.measured.profile:
        scaling = dataclasses.replace(
            scaling, measured=dataclasses.replace(scaling.measured, profile=profiled)
        )
    earlier = _readings(scaling)
    basis = resolved, rollout, before
    if not isinstance(results, Unknown) and steady_state.holds(
        scaling.steady_state, results, pods=service.pods, basis=basis, now=moment.monotonic
    ):
        readings: tuple[Reading, ...] | Unknown = earlier
        if results.histograms and scaling.measured is not None:
            readings = signals.readings(results, resolved.objectives, earlier=earlier)
            measured = dataclasses.replace(scaling.measured, readings=readings)
            scaling = dataclasses.replace(scaling, measured=measured)
        if steady_state.objectives_met(readings):
            return scaling, Changes.NONE
    rolling = rollout.active != rollout.wanted
    engines = scaling.active_engines if rolling or rollout.rejected else None
    if engines is None:
        engines = resolved.engines
    gathered = inputs.build(
        results,
        _settings(resolved, engines=engines),
        now=moment.wall,
        pods=tuple(
            _pod_status(pod, usual_start=before.cold.median, now=moment.wall)
            for pod in service.pods
            if pod.revision == rollout.active
        ),
        revision=rollout.active,
        rolling=rolling,
        earlier=earlier,
    )
    decision, state = policy.decide(gathered, before)
    measured = dataclasses.replace(
        _measured(results, gathered, revision=rollout.active), profile=profiled
    )
    disabled, low_acceptance_since = None, scaling.low_acceptance_since
    low_gain_since = scaling.low_gain_since
    if rollout.canary is None:
        disabled, low_acceptance_since = speculation.decide(
            resolved,
            measured.draft_tokens,
            below_since=scaling.low_acceptance_since,
            now=moment.monotonic,
        )
        disabled_by_gain, low_gain_since = speculation.decide_by_gain(
            resolved, measured.gain, below_since=scaling.low_gain_since, now=moment.monotonic
        )
        disabled = disabled or disabled_by_gain
    loss_since = speculation.loss_since(
        measured.gain, since=scaling.speculation_loss_since, now=moment.monotonic
    )
    if loss := speculation.loss(measured.gain, since=loss_since, now=moment.monotonic):
        measured = dataclasses.replace(measured, loss=loss)
    changes = _changes(scaling, results, measured, decision)
    if disabled is not None:
        changes = Changes.MAJOR
    return Scaling(
        state=state,
        decision=decision,
        measured=measured,
        steady_state=steady_state.start(
            results,
            measured.readings,
            pods=service.pods,
            decision=decision,
            basis=(resolved, rollout, state),
            until=steady_state.deadline(service.key, now=moment.monotonic),
        ),
        active_engines=engines,
        disabled_speculation=disabled or scaling.disabled_speculation,
        low_acceptance_since=low_acceptance_since,
        low_gain_since=low_gain_since,
        speculation_loss_since=loss_since,
        summary=_summary(measured, decision) if changes is Changes.MAJOR else scaling.summary,
    ), changes


def hold(scaling: Scaling) -> tuple[Scaling, Changes]:
    """Keep the replica count of a service whose measurements no decision can use."""
    assert scaling.state is not None
    count = scaling.state.desired
    scaling = dataclasses.replace(scaling, steady_state=None)
    reason = f"Holding {wording.replicas(count)}: the metrics have values that no decision can use."
    if scaling.decision is not None and scaling.decision.reason == reason:
        return scaling, Changes.NONE
    decision = Decision(count, reason, known=False, failed=True)
    return dataclasses.replace(scaling, decision=decision), Changes.MAJOR


def restore(
    scaling: Scaling, *, state: str | None, disabled_speculation: str | None, now: float
) -> Scaling:
    """Return the state with the texts that an earlier leader saved; `now` is in seconds since the epoch."""
    return dataclasses.replace(
        scaling,
        state=persistence.load(state, now=now) if state else scaling.state,
        disabled_speculation=speculation.load(disabled_speculation)
        if disabled_speculation
        else scaling.disabled_speculation,
    )


def between_ticks(
    scaling: Scaling,
    observed: Observed,
    resolved: Resolved,
    *,
    renewal: Renewal,
    moment: Moment,
) -> Scaling:
    """Return a state whose decision is within the present bounds.

    A service that is scaled to zero starts at once if requests wait for it: the router then renews the Lease. All else
    waits for the next tick.
    """
    scaling = _within_bounds(scaling, observed, resolved, now=moment.wall)
    assert scaling.state is not None
    desired = scaling.state.desired
    if activation.requested(renewal, resolved.bounds, desired, monotonic=moment.monotonic):
        decision, state = policy.wake(scaling.state, now=moment.wall)
        scaling = dataclasses.replace(scaling, decision=decision, state=state)
    return scaling


def running(observed: Observed, resolved: Resolved) -> int:
    """Return the replicas that the workloads ask for now, or else the minimum.

    With a limited surge, a rollout in steps splits them between both revisions.
    """
    counts: list[int] = [
        child.manifest["spec"].get("replicas", 0)
        for child in observed.children
        if child.ref.kind in names.WORKLOADS
        and child.revision is not None
        and child.controller == observed.parent.uid
    ]
    first = 1 if resolved.bounds.follows_load else 0  # a new model proves once that it starts
    surge = resolved.steps.surge if resolved.steps is not None else None
    if counts and surge is not None:
        return max(*counts, sum(counts) - surge)
    return max(counts, default=max(resolved.bounds.minimum, first))


def _within_bounds(
    scaling: Scaling, observed: Observed, resolved: Resolved, *, now: float
) -> Scaling:
    state, decision, bounds = scaling.state, scaling.decision, resolved.bounds
    if state is None:
        state = policy.initial(desired=running(observed, resolved), now=now)
    if not (
        decision is not None
        and _inside(decision, bounds)
        and bounds.follows_load
        and not bounds.paused
    ):
        nothing = Unknown("nothing was measured yet")
        settings = _settings(resolved, engines=resolved.engines)
        decision, state = policy.decide(inputs.build(nothing, settings, now=now, pods=()), state)
    return dataclasses.replace(scaling, state=state, decision=decision)


def _inside(decision: Decision, bounds: Bounds) -> bool:
    return bounds.minimum <= decision.desired <= bounds.maximum


def _settings(resolved: Resolved, *, engines: int) -> Settings:
    return Settings(
        bounds=resolved.bounds,
        objectives=resolved.objectives,
        scale_down_window=resolved.scale_down_window,
        rate_window=resolved.rate_window,
        max_sequences=resolved.max_sequences,
        engines=engines,
        provision_time=resolved.provision_time,
    )


def _readings(scaling: Scaling) -> tuple[Reading, ...]:
    """Return the last readings; none if they are unknown."""
    known = scaling.measured.readings if scaling.measured else ()
    return known if isinstance(known, tuple) else ()


def _measured(results: ServiceResults | Unknown, gathered: Inputs, *, revision: str) -> Measured:
    if isinstance(results, Unknown):
        return Measured(load=results, readings=results)
    return Measured(
        load=gathered.load,
        readings=gathered.readings,
        draft_tokens=signals.draft_tokens(results, revision=revision),
        gain=signals.gain(results, revision=revision),
        by_batch=signals.by_batch(results, revision=revision),
        kv_capacity=signals.kv_capacity(results),
        adapters=signals.adapters(results),
    )


def _profile(
    scaling: Scaling, results: ServiceResults | Unknown, *, revision: str
) -> profile.Profile | None:
    """Return the profile of this round, or else the last one; None if it is unknown."""
    if isinstance(results, Unknown):
        return None
    measured = scaling.measured
    load = measured.load if measured is not None else None
    found = profile.read(
        results,
        sequences=signals.max_sequences(results, revision=revision),
        kv=max((pod.kv_mean for pod in load.pods), default=None)
        if isinstance(load, Load)
        else None,
    )
    if found is None and measured is not None:
        return measured.profile
    return found


def _changes(
    before: Scaling, results: ServiceResults | Unknown, measured: Measured, decision: Decision
) -> Changes:
    if before.decision is None or before.decision.desired != decision.desired:
        return Changes.MAJOR
    # NB: if queries fail, the summaries of all services change at once, and again when they succeed.
    failed = not isinstance(results, Unknown) and bool(results.failed)
    changed = _summary(measured, decision) != before.summary
    return Changes.MAJOR if changed and not failed else Changes.MINOR


def _summary(measured: Measured, decision: Decision) -> tuple[object, ...]:
    """Return the values that must reach status soon if they change."""
    verdicts: object = None
    if isinstance(measured.readings, tuple):
        verdicts = tuple(
            [
                (reading.telling and reading.over, reading.current is None)
                for reading in measured.readings
            ]
        )
    return (
        verdicts,
        measured.kv_capacity,
        measured.adapters,
        measured.loss is None,
        decision.desired,
        decision.known,
        decision.infeasible is None,
    )


def _pod_status(pod: ObservedPod, *, usual_start: float, now: float) -> PodStatus:
    """Return the policy's view of a pod."""
    reason = pod.trouble[0] if pod.trouble else None
    return PodStatus(
        name=pod.name,
        created=units.moment(pod.created),
        ready_at=_ready_at(pod, usual_start=usual_start, now=now) if pod.ready else None,
        scheduled=reason != Reason.UNSCHEDULABLE,
        failed_starts=int(reason is not None and reason != Reason.UNSCHEDULABLE),
    )


def _ready_at(pod: ObservedPod, *, usual_start: float, now: float) -> float:
    """Return the time of readiness.

    The node writes that time. If its clock is wrong, the pod is assumed to have started in the usual time.
    """
    created = units.moment(pod.created)
    ready = None if pod.ready_since is None else units.moment(pod.ready_since)
    if ready is not None and created - CLOCK_SECONDS <= ready <= now + CLOCK_SECONDS:
        return ready
    return min(created + usual_start, max(now, created))
