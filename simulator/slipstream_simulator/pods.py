"""Pods of a simulated Deployment: creation, cold start, serving, drain and end."""

import heapq
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from slipstream_simulator import policy, traffic
from slipstream_simulator.kernel.fleet import Kernel
from slipstream_simulator.scenarios import Scenario

_COLD, _CRASH = 201, 202
_CRASH_BACKOFF_SECONDS: Final = 10.0
_LONGEST_BACKOFF_SECONDS: Final = 300.0
"""The kubelet's backoff: 10 s, doubled with each crash, at most 5 minutes."""

FLEET, SCRAPE, DECISION = range(3)
"""Order of control events at the same time."""


@dataclass
class Agenda:
    """Control events in order of time."""

    _heap: list[tuple[float, int, int, Callable[[float], None]]] = field(default_factory=list)
    _count: "itertools.count[int]" = field(default_factory=itertools.count)

    def at(self, time: float, order: int, action: Callable[[float], None]) -> None:
        """Schedule an action."""
        heapq.heappush(self._heap, (time, order, next(self._count), action))

    def run(self, until: float, advance: Callable[[float], None]) -> None:
        """Run all actions before `until`; call `advance` with the time of each action first."""
        while self._heap and self._heap[0][0] < until:
            now, _, _, action = heapq.heappop(self._heap)
            advance(now)
            action(now)

    def clear(self) -> None:
        """Drop the remaining actions, since they keep the fleet and its large arrays alive."""
        self._heap.clear()


@dataclass(eq=False)
class Pod:
    """Pod of the simulation; times are seconds of the simulation."""

    name: str
    index: int
    created: float
    scheduled: float | None = None
    ready: float | None = None
    closed: float | None = None
    """Time at which its deletion began."""
    ended: float | None = None
    slot: int | None = None
    failed_starts: int = 0
    _view: policy.Pod | None = None

    @property
    def view(self) -> policy.Pod:
        """Return the pod as the API server reports it; the same object while nothing changes."""
        ready, terminating = self.slot is not None and self.closed is None, self.closed is not None
        scheduled, view = self.scheduled is not None, self._view
        if (
            view is None
            or view.ready != ready
            or view.ready_at != self.ready
            or view.terminating != terminating
            or view.scheduled != scheduled
            or view.failed_starts != self.failed_starts
        ):
            view = self._view = policy.Pod(
                name=self.name,
                created=self.created,
                ready=ready,
                ready_at=self.ready,
                terminating=terminating,
                scheduled=scheduled,
                failed_starts=self.failed_starts,
            )
        return view


def cold_start(scenario: Scenario, *, seed: int, index: int, attempt: int = 0) -> float:
    """Return the start time in seconds of the `index`-th pod in order of creation."""
    return scenario.cold_start.draw(traffic.generator(seed, _COLD, index, attempt))


class Deployment:
    """Deployment that behaves as in Kubernetes: it replaces lost pods, waits for capacity and backs off after crashes.

    It removes pods that are not ready first, the newest first; then pods with the fewest requests in flight.
    """

    def __init__(self, scenario: Scenario, kernel: Kernel, agenda: Agenda, *, seed: int) -> None:
        self._scenario, self._kernel, self._agenda, self._seed = scenario, kernel, agenda, seed
        self.replicas = scenario.scaling.initial
        self.pods: list[Pod] = []
        """Pods that exist, in order of creation."""
        self.past: list[Pod] = []
        self.ready_counts: list[tuple[float, int]] = []
        for index in range(self.replicas):
            began = -cold_start(scenario, seed=seed, index=index)
            pod = self._create(began)
            pod.scheduled = began
            self._open(pod, 0.0)

    @property
    def ready(self) -> list[Pod]:
        """Return the pods that take requests, the oldest first."""
        return [pod for pod in self.pods if pod.slot is not None and pod.closed is None]

    def scale(self, replicas: int, now: float) -> None:
        """Set the number of replicas."""
        self.replicas = replicas
        self.reconcile(now)

    def reconcile(self, now: float) -> None:
        """Create, remove and schedule pods to reach the number of replicas."""
        self._reap(now)
        kept = [pod for pod in self.pods if pod.closed is None]
        for _ in range(self.replicas - len(kept)):
            self._create(now)
        excess = len(kept) - self.replicas
        if excess > 0:
            for pod in sorted(kept, key=self._deletion_order)[:excess]:
                self._remove(pod, now)
        self._schedule(now)

    def lose(self, share: float, now: float) -> None:
        """Remove this share of the ready pods with their nodes, the oldest first."""
        ready = self.ready
        for pod in ready[: math.ceil(share * len(ready) - 1e-9)]:
            self._end(pod, now)
        self._note(now)
        self.reconcile(now)

    def _deletion_order(self, pod: Pod) -> tuple[int, int, int]:
        if pod.slot is None:
            return (0, 0 if pod.scheduled is None else 1, -pod.index)
        return (1, self._kernel.in_flight(pod.slot), -pod.index)

    def _room(self, now: float) -> float:
        scenario = self._scenario
        room = math.inf if scenario.scaling.capacity is None else float(scenario.scaling.capacity)
        away = self._away(now)
        if away:
            room = min(room, scenario.scaling.max_replicas) - away
        return min([room, *(float(event.quota or 0) for event in scenario.during("quota", now))])

    def _away(self, now: float) -> int:
        return sum(count for since, until, count in self.nodes_away if since <= now < until)

    nodes_away: tuple[tuple[float, float, int], ...] = ()
    """Lost GPUs: start and end in seconds, and number."""

    def _create(self, now: float) -> Pod:
        index = len(self.pods) + len(self.past)
        pod = Pod(f"{self._scenario.name}-{index}", index, now)
        self.pods.append(pod)
        return pod

    def _schedule(self, now: float) -> None:
        used = sum(pod.scheduled is not None for pod in self.pods)
        room = self._room(now)
        for pod in self.pods:
            if pod.scheduled is None and used < room:
                pod.scheduled = now
                used += 1
                self._start(pod, now)

    def _start(self, pod: Pod, now: float) -> None:
        """Schedule the end of a start; its random numbers depend only on the seed and the pod."""
        attempt = pod.failed_starts
        takes = cold_start(self._scenario, seed=self._seed, index=pod.index, attempt=attempt)
        luck = traffic.generator(self._seed, _CRASH, pod.index, attempt).random()

        def finish(then: float) -> None:
            if pod.ended is not None:
                return
            failing = self._scenario.during("fail_starts", then)
            if any(luck < (event.fail_starts or 0.0) for event in failing):
                pod.failed_starts += 1
                pause = min(_CRASH_BACKOFF_SECONDS * 2**attempt, _LONGEST_BACKOFF_SECONDS)
                self._agenda.at(then + pause, FLEET, again)
            else:
                self._open(pod, then)

        def again(then: float) -> None:
            if pod.ended is None:
                self._start(pod, then)

        self._agenda.at(now + takes, FLEET, finish)

    def _open(self, pod: Pod, now: float) -> None:
        pod.ready = now
        pod.slot = self._kernel.open(now)
        self._note(now)

    def _remove(self, pod: Pod, now: float) -> None:
        if pod.slot is None:
            self._end(pod, now)
            return
        pod.closed = now
        self._kernel.close(pod.slot)
        self._note(now)

        def kill(then: float) -> None:
            self._reap(then)
            if pod.ended is None:
                self._end(pod, then)
                self.reconcile(then)

        self._agenda.at(now + self._scenario.scaling.grace, FLEET, kill)
        self._reap(now)

    def _reap(self, now: float) -> None:
        """End the draining pods that have no requests left."""
        for pod in [pod for pod in self.pods if pod.closed is not None and pod.slot is not None]:
            assert pod.slot is not None and pod.closed is not None
            emptied = self._kernel.emptied(pod.slot)
            if emptied <= now:
                self._end(pod, now)
                pod.ended = max(emptied, pod.closed)

    def _end(self, pod: Pod, now: float) -> None:
        if pod.slot is not None:
            self._kernel.clear(pod.slot, now)
        pod.ended, pod.slot = now, None
        self.pods.remove(pod)
        self.past.append(pod)

    def _note(self, now: float) -> None:
        ready = self.ready
        self._kernel.pin(ready[0].slot if ready else None)
        self.ready_counts.append((now, len(ready)))
