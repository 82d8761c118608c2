"""Rollouts in steps, and what is measured during them."""

import dataclasses
import math
from typing import Any

from slipstream_operator.core.comparison.judgement import Judgement, Measure, Scale, judge
from slipstream_operator.core.comparison.totals import Totals
from slipstream_operator.core.rollout import machine
from slipstream_operator.core.rollout.evidence import Evidence
from slipstream_operator.core.rollout.machine import Situation
from slipstream_operator.core.rollout.policy import Policy
from slipstream_operator.core.rollout.replicas import Limits
from slipstream_operator.core.rollout.state import Progress, State
from tests.support import given

STABLE, CANARY, THIRD = "aaaaaaaa", "bbbbbbbb", "cccccccc"

POLICY = Policy(steps=(5, 25, 50), pause=60.0, max_duration=600.0)

TPOT = Measure("tpot", Scale.LOGARITHM, tolerance=0.1)


def totals(mean: float, *, count: int, spread: float = 0.2) -> Totals:
    """Totals of the logarithms of values around `mean`."""
    center = math.log(mean)
    return Totals(count, count * center, count * (center**2 + spread**2))


def judgement(ratio: float, *, count: int) -> Judgement:
    """The real judgement about a canary whose TPOT is `ratio` times that of the stable revision."""
    stable, canary = totals(0.04, count=count), totals(0.04 * ratio, count=count)
    return judge([TPOT], {"tpot": stable}, {"tpot": canary}, error=0.01)


def evidence(
    ratio: float,
    *,
    count: int = 2000,
    counted: int | None = None,
    stable: str = STABLE,
    canary: str = CANARY,
) -> Evidence:
    """Evidence of `count` requests of each revision."""
    requests = count if counted is None else counted
    return Evidence(judgement(ratio, count=count), {stable: requests, canary: requests})


GOOD, WORSE = evidence(1.0), evidence(1.3)
UNSURE = evidence(1.1)


def situation(**changes: Any) -> Situation:
    """A service with four ready replicas, of which another revision is wanted."""
    base = Situation(
        service=given.NAME,
        policy=POLICY,
        wanted=CANARY,
        serving=STABLE,
        by_router=True,
        sole=STABLE,
        ready={STABLE: 4},
        limits=Limits(4),
        stopped=False,
        evidence=Evidence(),
        given=(),
        now=given.MOMENT,
    )
    return dataclasses.replace(base, **changes)


@dataclasses.dataclass
class Course:
    """A rollout that a test drives: each look stores and restores its state, as a restart of the operator does."""

    progress: Progress = dataclasses.field(default_factory=Progress)
    now: float = given.MOMENT
    events: list[str] = dataclasses.field(default_factory=list)
    messages: list[str] = dataclasses.field(default_factory=list)
    ready: dict[str, int] = dataclasses.field(default_factory=lambda: {STABLE: 4})
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)

    def look(self, *, after: float = 0.0, **changes: Any) -> State | None:
        """Let time pass, and look at the rollout."""
        self.now += after
        self.settings |= changes
        found = situation(**{"now": self.now, "ready": self.ready, **self.settings})
        self.progress, events = machine.advance(self.progress, found)
        self.events += [event.reason for event in events]
        self.messages += [event.message for event in events]
        last = self.progress.state
        text = self.progress.text
        self.progress = Progress() if text is None else Progress.parse(text, now=self.now)
        return last

    def starts(self, canary: int = 4, **changes: Any) -> State:
        """Start all pods of the canary, and enter the first step."""
        self.look(**changes)
        self.ready = {**self.ready, CANARY: canary}
        state = self.look()
        assert state is not None
        assert state.step == 0
        return state

    def weight(self) -> int:
        """The canary's share of the requests."""
        policy = self.settings.get("policy", POLICY)
        state = self.progress.state
        return 0 if state is None else machine.weight(state, policy, ready=self.ready)
