"""Fleet of both revisions in model time: engines of the project's simulator behind two routers, and what they count.

The totals are those of the router's own code, and the operator's own code collects and judges them.
"""

import dataclasses
import heapq
import itertools
import math
import random
from collections.abc import Hashable, Iterator, Sequence
from typing import Final

from slipstream_operator.core.comparison import collection, measures
from slipstream_operator.core.comparison.collection import Collected, Comparison
from slipstream_operator.core.comparison.judgement import Judgement
from slipstream_operator.core.scaling.metrics.values import Sample
from slipstream_runtime import contract
from slipstream_runtime.recording.recorder import Outcome
from slipstream_runtime.router.balancing import weighted
from slipstream_runtime.router.comparing.arms import Arm, Arms
from slipstream_runtime.router.config import Revision
from slipstream_runtime.router.recording.flight import Flight
from slipstream_runtime.simulator import model

STABLE, CANARY = "aaaaaaaa", "bbbbbbbb"
SERVICE: Final = "chat"
SCRAPE_SECONDS: Final = 15.0
_BLOCK_TOKENS: Final = 16


@dataclasses.dataclass(frozen=True)
class Scenario:
    """Traffic and replicas of one rollout. Times are seconds."""

    name: str
    rate: float = 2.0
    """Requests per second, on average."""
    stable: int = 2
    prompt: tuple[float, float] = (400.0, 0.8)
    """Median and log deviation of prompt tokens."""
    output: tuple[float, float] = (100.0, 0.7)
    swing: float = 0.0
    """Amplitude of a wave of the rate, as a share of it."""
    period: float = 600.0
    burst: float = 1.0
    """Mean requests that arrive at once."""
    drift: float = 0.01
    """Log deviation of a replica's speed, which changes slowly."""
    memory: float = 30.0
    """Time in which a replica's speed changes."""
    machine: float = 0.01
    """Log deviation of the speeds of machines."""
    heavy: float = 0.0
    """Share of requests of Pareto-distributed length."""
    parameters: model.Parameters = dataclasses.field(
        default_factory=lambda: model.Parameters(alpha=0.015, beta=3e-4)
    )


SCENARIOS: Final = (
    Scenario("steady"),
    Scenario("daily trend", swing=0.6),
    Scenario("correlated load", stable=3, burst=6.0, drift=0.15, memory=60.0),
    Scenario("heavy tails", heavy=0.03, output=(80.0, 1.1), prompt=(300.0, 1.2)),
    Scenario("one replica", stable=1, rate=1.0),
    Scenario(
        "all at once", stable=3, rate=3.0, swing=0.6, burst=4.0, drift=0.1, memory=60.0, heavy=0.02
    ),
)


class _Replica:
    """One engine."""

    def __init__(
        self, scenario: Scenario, revision: str, chance: random.Random, slow: float
    ) -> None:
        self.engine = model.Engine(scenario.parameters)
        self.revision = revision
        self.name = f"{revision}-{chance.random()}"
        self.busy = False
        self.in_flight = [0, 0]
        """Requests of each router."""
        self._scenario = scenario
        self._chance = chance
        self._machine = slow * chance.lognormvariate(0.0, scenario.machine)
        self._drift = chance.gauss(0.0, scenario.drift)
        self._at = 0.0

    def pace(self, now: float) -> float:
        """Return the factor of the duration of a step."""
        keep = math.exp(-(now - self._at) / self._scenario.memory)
        self._at = now
        noise = self._scenario.drift * math.sqrt(1 - keep * keep)
        self._drift = keep * self._drift + self._chance.gauss(0.0, noise)
        return self._machine * math.exp(self._drift)


@dataclasses.dataclass(slots=True)
class _Query:
    flight: Flight
    arm: Arm
    replica: _Replica
    router: int
    output: int


class Fleet:
    """Rollout of one canary; `slow` multiplies the duration of its steps."""

    def __init__(self, scenario: Scenario, *, seed: int, slow: float = 1.0) -> None:
        self._scenario = scenario
        self._chance = random.Random(f"{scenario.name}-{seed}")
        self._slow = slow
        self.now = 0.0
        self._arms = [Arms(SERVICE, now=lambda: self.now) for _ in range(2)]
        self._positions = [weighted.Positions(self._chance.random) for _ in self._arms]
        self._replicas = [self._replica(STABLE) for _ in range(scenario.stable)]
        self._ends: list[tuple[float, int, _Replica, model.Step]] = []
        self._order = itertools.count()
        self._inside: dict[Hashable, _Query] = {}
        self._arrivals = self._arrive()
        self._shares: dict[str, int] = {}

    def looks(self, weight: int, requests: int) -> Iterator[tuple[int, Judgement | None]]:
        """Run a step of these requests; after each scrape yield the requests so far and the judgement."""
        self._begin(weight)
        comparison = Comparison(
            STABLE, CANARY, {STABLE: 100 - weight, CANARY: weight}, since=self.now
        )
        collected = Collected(comparison)
        sent, scrape = 0, self.now + SCRAPE_SECONDS
        while True:
            at = next(self._arrivals)
            while at >= scrape:
                self._run(scrape)
                collected = collection.collect(collected, self._samples(), service=SERVICE)
                yield sent, judged(collected)
                scrape += SCRAPE_SECONDS
            if sent == requests:
                return
            self._run(at)
            self._send()
            sent += 1

    def _begin(self, weight: int) -> None:
        names = {revision: f"{SERVICE}-{revision}" for revision in (STABLE, CANARY)}
        revisions = [
            Revision(name=names[STABLE], weight=100 - weight),
            Revision(name=names[CANARY], weight=weight),
        ]
        for arms in self._arms:
            arms.configure(revisions)
        self._shares = {CANARY: weight, STABLE: 100 - weight}
        wanted = math.ceil(self._scenario.stable * weight / (100 - weight))
        present = sum(replica.revision == CANARY for replica in self._replicas)
        self._replicas += [self._replica(CANARY) for _ in range(wanted - present)]

    def _replica(self, revision: str) -> _Replica:
        slow = self._slow if revision == CANARY else 1.0
        return _Replica(self._scenario, revision, self._chance, slow)

    def _arrive(self) -> Iterator[float]:
        scenario, chance, at = self._scenario, self._chance, 0.0
        phase = chance.random()
        while True:
            wave = 1 + scenario.swing * math.sin(2 * math.pi * (at / scenario.period + phase))
            at += chance.expovariate(scenario.rate * wave / scenario.burst)
            count = 1
            while chance.random() > 1 / scenario.burst:
                count += 1
            yield from [at] * count

    def _length(self, median: float, deviation: float, *, most: float) -> int:
        length = median * self._chance.lognormvariate(0.0, deviation)
        if self._chance.random() < self._scenario.heavy:
            length = median * self._chance.paretovariate(1.1)
        return max(1, round(min(length, most)))

    def _send(self) -> None:
        router = self._chance.randrange(len(self._arms))
        revision = weighted.draw(self._shares, self._positions[router].next())
        replica = min(
            (each for each in self._replicas if each.revision == revision),
            key=lambda each: (each.in_flight[router], self._chance.random()),
        )
        prompt = self._length(*self._scenario.prompt, most=8000)
        output = self._length(*self._scenario.output, most=2000)
        flight = Flight("")
        flight.sent, flight.work, flight.streamed = self.now, prompt / _BLOCK_TOKENS, True
        replica.in_flight[router] += 1
        flight.replica = replica.name
        arm = self._arms[router].of(f"{SERVICE}-{revision}")
        assert arm is not None
        arm.enter(flight, replica.name, now=self.now, in_flight=replica.in_flight[router])
        key = next(self._order)
        self._inside[key] = _Query(flight, arm, replica, router, output)
        replica.engine.add(model.Request(key, self.now, prompt, output))
        if not replica.busy:
            self._start(replica)

    def _start(self, replica: _Replica) -> None:
        pace = replica.pace(self.now)
        step = replica.engine.step(self.now, until=self.now + 0.25)
        replica.busy = True
        heapq.heappush(
            self._ends, (self.now + step.duration * pace, next(self._order), replica, step)
        )

    def _run(self, until: float) -> None:
        while self._ends and self._ends[0][0] <= until:
            self.now, _, replica, step = heapq.heappop(self._ends)
            for request in step.first:
                self._inside[request.key].flight.replied = self.now
            for request in step.finished:
                self._finish(self._inside.pop(request.key))
            replica.busy = False
            if not replica.engine.idle:
                self._start(replica)
        self.now = until

    def _finish(self, query: _Query) -> None:
        flight, in_flight = query.flight, query.replica.in_flight
        flight.reason = "stop"
        in_flight[query.router] -= 1
        left = in_flight[query.router]
        query.arm.leave(flight, query.replica.name, now=self.now, in_flight=left)
        query.arm.ended(
            flight, now=self.now, status=200, outcome=Outcome.ANSWERED, output=query.output
        )

    def _samples(self) -> Sequence[Sample]:
        return [
            Sample({**sample.labels, "namespace": "team", "pod": f"router-{number}"}, sample.value)
            for number, arms in enumerate(self._arms)
            for family in arms.collect()
            for sample in family.samples
            if sample.name == contract.ROUTER_COMPARED
        ]


def judged(collected: Collected, tolerance: float = 0.1) -> Judgement | None:
    """Return the judgement of the operator with its defaults."""
    totals = collected.totals()
    return measures.assess(totals.get(STABLE, {}), totals.get(CANARY, {}), tolerance=tolerance)
