"""Replay of requests on one engine in simulated time, for calibration and tests."""

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field

from slipstream_runtime.simulator import model


@dataclass(slots=True)
class Outcome:
    """Times of a request's events, by the clock of its arrival."""

    request: model.Request
    admitted: float | None = None
    first: float | None = None
    finished: float | None = None
    preemptions: int = 0

    @property
    def ttft(self) -> float:
        """Seconds from arrival to the first token."""
        assert self.first is not None
        return self.first - self.request.arrival

    @property
    def tpot(self) -> float:
        """Mean seconds between output tokens, 0 for a single token, as vLLM defines it."""
        assert self.first is not None and self.finished is not None
        return (self.finished - self.first) / max(1, self.request.output - 1)

    @property
    def e2e(self) -> float:
        """Seconds from arrival to the last token."""
        assert self.finished is not None
        return self.finished - self.request.arrival


@dataclass(slots=True)
class Replay:
    """Engine with its own clock, which jumps from event to event."""

    engine: model.Engine
    now: float = 0.0
    outcomes: dict[Hashable, Outcome] = field(default_factory=dict)

    def run(self, requests: Iterable[model.Request]) -> Iterator[tuple[float, model.Step]]:
        """Replay requests in order of arrival; yield each step with the time of its end."""
        pending = sorted(requests, key=lambda request: request.arrival)
        position = 0
        while position < len(pending) or not self.engine.idle:
            if self.engine.idle:
                self.now = max(self.now, pending[position].arrival)
            while position < len(pending) and pending[position].arrival <= self.now:
                self.engine.add(pending[position])
                self.outcomes[pending[position].key] = Outcome(pending[position])
                position += 1
            until = pending[position].arrival if position < len(pending) else float("inf")
            step = self.engine.step(self.now, until=until)
            self._note(step)
            yield self.now, step

    def _note(self, step: model.Step) -> None:
        for request in step.admitted:
            outcome = self.outcomes[request.key]
            outcome.admitted = self.now if outcome.admitted is None else outcome.admitted
        self.now += step.duration
        for request in step.first:
            self.outcomes[request.key].first = self.now
        for request in step.finished:
            self.outcomes[request.key].finished = self.now
        for request in step.preempted:
            self.outcomes[request.key].preemptions += 1


def replay(parameters: model.Parameters, requests: Iterable[model.Request]) -> list[Outcome]:
    """Return the outcome of every request, in order of arrival."""
    player = Replay(model.Engine(parameters))
    for _ in player.run(requests):
        pass
    return list(player.outcomes.values())
