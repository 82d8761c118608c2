"""Simulation of one scenario with one policy and one seed."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from slipstream_operator.core.scaling.metrics import signals
from slipstream_simulator import traffic
from slipstream_simulator.events import Event
from slipstream_simulator.kernel.fleet import Kernel
from slipstream_simulator.kernel.layout import Records
from slipstream_simulator.pods import (
    DECISION,
    FLEET,
    SCRAPE,
    Agenda,
    Deployment,
    Pod,
)
from slipstream_simulator.policy import FleetView, Policy
from slipstream_simulator.prometheus.server import Prometheus, Target
from slipstream_simulator.scenarios import Scenario

_LOOK_SECONDS: Final = 300.0


@dataclass
class Safety:
    """Number of decisions that no policy may take, by kind."""

    down_while_incomplete: int = 0
    """Decisions to scale down while less than 80 % of the ready pods report."""
    removed_in_outage: int = 0
    """Replicas removed while Prometheus returned no data."""
    zero_with_requests: int = 0
    """Decisions to scale to zero while requests were in flight, queued or about to be retried."""
    out_of_bounds: int = 0
    """Decisions below the minimum or above the maximum."""

    @property
    def total(self) -> int:
        """Return the number of unsafe decisions of all kinds."""
        return (
            self.down_while_incomplete
            + self.removed_in_outage
            + self.zero_with_requests
            + self.out_of_bounds
        )


@dataclass
class Run:
    """Record of a simulated run."""

    scenario: Scenario
    policy: str
    seed: int
    requests: Records
    pods: list[Pod]
    requested: list[tuple[float, int]]
    """Changes of the requested number of replicas: time in seconds, and count."""
    ready: list[tuple[float, int]]
    """Changes of the number of pods that take requests: time in seconds, and count."""
    safety: Safety = field(default_factory=Safety)
    events: int = 0


def run(scenario: Scenario, policy: Policy, *, seed: int) -> Run:
    """Run the scenario to its end; traffic and random numbers depend only on the seed, never on the policy."""
    simulation = _Simulation(scenario, policy, seed)
    simulation.play_until(scenario.duration)
    return simulation.finished()


def attempt(
    scenario: Scenario, policy: Policy, *, seed: int, hopeless: Callable[[Kernel], bool]
) -> Run | None:
    """Run the scenario, but return None as soon as `hopeless` holds, which is checked every 5 minutes."""
    simulation = _Simulation(scenario, policy, seed)
    for until in np.arange(_LOOK_SECONDS, scenario.duration, _LOOK_SECONDS):
        simulation.play_until(float(until))
        if hopeless(simulation.kernel):
            simulation.drop()
            return None
    simulation.play_until(scenario.duration)
    return simulation.finished()


class _Simulation:
    def __init__(self, scenario: Scenario, policy: Policy, seed: int) -> None:
        self._scenario, self._policy = scenario, policy
        self._objectives = scenario.objectives
        kinds = traffic.kinds(scenario)
        client = scenario.client
        patience = math.inf if client.timeout is None else client.timeout
        self.kernel = Kernel(
            scenario.engine.parameters(),
            traffic.requests(scenario, seed=seed),
            patience=[patience if kind.deadline is None else kind.deadline for kind in kinds],
            retries=[client.retries] * len(kinds),
            backoff=client.backoff,
            router=scenario.router,
            slots=4 * scenario.scaling.max_replicas,
        )
        self._agenda = Agenda()
        self._deployment = Deployment(scenario, self.kernel, self._agenda, seed=seed)
        self._queries = dict(policy.queries())
        self._prometheus = Prometheus(scenario, self._queries, seed=seed)
        self._run = Run(
            scenario=scenario,
            policy=policy.name,
            seed=seed,
            requests=self.kernel.records,
            pods=[],
            requested=[(0.0, self._deployment.replicas)],
            ready=self._deployment.ready_counts,
        )
        for event in scenario.events:
            self._plan(event)
        self._agenda.at(0.0, SCRAPE, self._scrape)
        self._agenda.at(policy.every, DECISION, self._decide)

    def play_until(self, until: float) -> None:
        """Run all control events before that time."""
        self._agenda.run(until, self.kernel.advance)

    def finished(self) -> Run:
        """Return the record of the run after all events."""
        self.kernel.advance(self._scenario.duration)
        self._deployment.reconcile(self._scenario.duration)
        self._run.pods = [*self._deployment.past, *self._deployment.pods]
        self._run.events = self.kernel.events
        self.drop()
        return self._run

    def drop(self) -> None:
        """Drop the remaining control events."""
        self._agenda.clear()

    def _scrape(self, now: float) -> None:
        self._deployment.reconcile(now)
        pods = [pod for pod in self._deployment.pods if pod.slot is not None]
        # NB: also where nobody asks for it, since it counts the pods' steps up to now.
        read = self.kernel.read([pod.slot for pod in pods if pod.slot is not None], now)
        in_flight = float(read[:, :2].sum()) + self.kernel.held
        self._prometheus.scrape(
            now,
            [Target(pod.name, pod.index) for pod in pods],
            read,
            np.array([self.kernel.attempts, self.kernel.held, in_flight, self.kernel.left]),
        )
        self._agenda.at(now + self._scenario.metrics.scrape, SCRAPE, self._scrape)

    def _decide(self, now: float) -> None:
        scaling, deployment = self._scenario.scaling, self._deployment
        deployment.reconcile(now)
        requested = self._policy.decide(
            FleetView(
                now=now,
                replicas=deployment.replicas,
                pods=tuple(pod.view for pod in deployment.pods),
                samples=self._prometheus.answer(now, self._policy.queries()),
                minimum=scaling.min_replicas,
                maximum=scaling.max_replicas,
                objectives=self._objectives,
            )
        )
        self._watch(requested, now)
        allowed = min(max(requested, scaling.min_replicas), scaling.max_replicas)
        if allowed != deployment.replicas:
            deployment.scale(allowed, now)
            self._run.requested.append((now, allowed))
        self._agenda.at(now + self._policy.every, DECISION, self._decide)

    def _watch(self, requested: int, now: float) -> None:
        """Count unsafe decisions."""
        scaling, safety = self._scenario.scaling, self._run.safety
        present = self._deployment.replicas
        if not scaling.min_replicas <= requested <= scaling.max_replicas:
            safety.out_of_bounds += 1
        if requested == 0 and present > 0 and self.kernel.live:
            safety.zero_with_requests += 1
        if requested >= present:
            return
        known = now - 2 * self._scenario.metrics.scrape - self._scenario.metrics.lag
        pods = [p.name for p in self._deployment.ready if p.ready is not None and p.ready <= known]
        share = self._prometheus.reporting(now, pods)
        if share < signals.COMPLETE:
            safety.down_while_incomplete += 1
        if share == 0.0:
            safety.removed_in_outage += present - requested

    def _plan(self, event: Event) -> None:
        begin: Mapping[str, Callable[[float], None]] = {
            "lose_pods": lambda now: self._lose(event, now),
            "slow_pod": lambda now: self._slow(event, now),
            "restart_operator": lambda now: self._policy.restarted(),
        }
        action = begin.get(event.kind)
        if action is not None:
            self._agenda.at(event.at, FLEET, action)
        if event.kind in ("quota", "lose_pods") and math.isfinite(event.until):
            self._agenda.at(event.until, FLEET, self._deployment.reconcile)

    def _lose(self, event: Event, now: float) -> None:
        share = event.lose_pods or 0.0
        lost = math.ceil(share * len(self._deployment.ready) - 1e-9)
        if event.restore is not None:
            away = (now, event.until, lost)
            self._deployment.nodes_away = (*self._deployment.nodes_away, away)
        self._deployment.lose(share, now)

    def _slow(self, event: Event, now: float) -> None:
        assert event.slow_pod is not None
        slowed = self._deployment.ready[: event.slow_pod.count]
        for pod in slowed:
            assert pod.slot is not None
            self.kernel.speed(pod.slot, event.slow_pod.speed, now)

        def recover(then: float) -> None:
            for pod in slowed:
                if pod.slot is not None:
                    self.kernel.speed(pod.slot, 1.0, then)

        if math.isfinite(event.until):
            self._agenda.at(event.until, FLEET, recover)
