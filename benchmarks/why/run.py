"""`make bench-why`: what-ifs of `slipstream why`, each against a service that really has the changed setting."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from benchmarks import report
from benchmarks.why import lab
from benchmarks.why.lab import Ask, Engines
from slipstream_cli.served import Served
from slipstream_operator.core.objectives import Objective
from slipstream_simulator.recorded import what_if
from slipstream_simulator.recorded.requests import Recorded
from slipstream_simulator.recorded.what_if import WhatIf

FOLDER: Final = Path(__file__).parent
SECONDS: Final = 240.0
WAVE: Final = 45.0
"""Seconds of more, and then of less traffic."""
RATE: Final = 4.3
"""Requests a second, of which two replicas are busy to about 90 %."""
ENGINE: Final[dict[str, Any]] = {
    "alpha": 0.06,
    "beta": 9e-4,
    "gamma": 6e-7,
    "delta": 3e-4,
    "kvTokens": 40_000,
    "maxSequences": 8,
    "maxBatchedTokens": 512,
}
PRESENT: Final = Engines(2, ENGINE)
CHANGES: Final = {
    "replicas=3": Engines(3, ENGINE),
    "batching.maxSequences=16": Engines(2, {**ENGINE, "maxSequences": 16}),
    "batching.maxBatchedTokens=64": Engines(2, {**ENGINE, "maxBatchedTokens": 64}),
    "replicas=3,batching.maxSequences=4": Engines(3, {**ENGINE, "maxSequences": 4}),
}
"""Changes, and the service that really has them."""
OBJECTIVES: Final = (
    Objective("ttft", "p95", 1.8, "1800ms"),
    Objective("e2e", "p95", 9.0, "9s"),
)
MEANINGS: Final = {
    "requests": "requests of each service that were judged",
    "recorded": "share of the requests inside both objectives with the present settings, measured",
    "worst_replay_error_points": (
        "largest difference between the replay with the present settings and the recording"
    ),
    "worst_error_points": (
        "largest difference between a what-if and the service that really has its settings, in percentage points"
    ),
}
_BASIS: Final = (
    f"A router process and simulated engines get Poisson arrivals in waves around {RATE:g} requests a second for "
    f"{SECONDS:g} s. A step takes 60 ms, 0.9 ms a sequence, 0.6 us a KV token and 0.3 ms a prompt token. The "
    "objectives are 1.8 s to the first token and 9 s to the end. The present service has two replicas with 8 "
    "sequences and 512 batched tokens. It plays beside the services with the changed settings, with the same "
    "requests. `slipstream why` gets the records of the first alone, and fits the step times to them. The steps are "
    "slow so that other processes of the machine change them little.\n"
)


@dataclass(frozen=True)
class Checked:
    """One what-if, and the share of the requests that really met their objectives."""

    found: WhatIf
    really: float

    @property
    def recorded(self) -> float:
        """Share of the requests that met their objectives with the present settings."""
        assert self.found.recorded.attainment is not None
        return self.found.recorded.attainment

    @property
    def predicted(self) -> float:
        """Share that the what-if predicts."""
        assert self.found.changed.attainment is not None
        return self.found.changed.attainment

    @property
    def replay_error(self) -> float:
        """Difference of the replay with the present settings."""
        assert self.found.error is not None
        return self.found.error

    @property
    def error(self) -> float:
        return self.predicted - self.really


def asks(*, seconds: float, rate: float, wave: float = WAVE, seed: int = 1) -> list[Ask]:
    """Poisson arrivals in waves, with lengths that vary."""
    dice, at, found = random.Random(seed), 0.0, []
    while True:
        busy = (at // wave) % 2
        at += dice.expovariate(rate * (1.3 if busy else 0.7))
        if at > seconds:
            return found
        prompt, output = (max(2, round(m * dice.lognormvariate(0, 0.5))) for m in (150, 40))
        found.append(Ask(at, prompt, output))


async def check(traffic: Sequence[Ask], changes: Mapping[str, Engines]) -> dict[str, Checked]:
    """Play the traffic on the present service and on all changed ones at once, and compare these with replays."""
    with lab.systems([PRESENT, *changes.values()]) as (before, *after):
        async with asyncio.TaskGroup() as group:
            for one in (before, *after):
                group.create_task(one.play(traffic))
        recorded = before.records()
        really = dict(zip(changes, (one.records() for one in after), strict=True))
    return compared(recorded, really)


def compared(
    recorded: Sequence[Recorded],
    really: Mapping[str, Sequence[Recorded]],
) -> dict[str, Checked]:
    """Return each what-if by the records of the present service, and the records of the service that has it."""
    served = Served(
        name=lab.SERVICE,
        objectives=OBJECTIVES,
        kv_tokens=PRESENT.config["kvTokens"],
        sequences=None,
        batched_tokens=PRESENT.config["maxBatchedTokens"],
        concurrency=None,
    )
    until = max(one.ended for one in recorded) + 60.0
    checked = {}
    for name, found in really.items():
        replayed = served.replayed(
            recorded,
            what_if.parse(name),
            since=0.0,
            until=until,
            routers=1,
            sequences=PRESENT.config["maxSequences"],
            state=None,
        )
        report = served.report(found, since=0.0, until=until)
        checked[name] = Checked(replayed, 1 - report.missed / report.answered)
    return checked


def main() -> None:
    checked = asyncio.run(check(asks(seconds=SECONDS, rate=RATE), CHANGES))
    report.publish(
        folder=FOLDER,
        title="What-ifs of slipstream why",
        command="make bench-why",
        figures={
            "requests": max(len(one.found.recorded.missed) for one in checked.values()),
            "recorded": round(fmean(one.recorded for one in checked.values()), 3),
            "worst_replay_error_points": round(
                max(abs(100 * one.replay_error) for one in checked.values()), 1
            ),
            "worst_error_points": round(max(abs(100 * one.error) for one in checked.values()), 1),
        },
        meanings=MEANINGS,
        details=_details(checked),
    )


def _details(checked: Mapping[str, Checked]) -> str:
    rows = [
        f"| `{name}` | {one.recorded:.1%} | {one.recorded + one.replay_error:.1%} | {one.predicted:.1%} "
        f"| {one.really:.1%} | {one.found.recovered} of {sum(one.found.recorded.missed)} |"
        for name, one in checked.items()
    ]
    head = "| what-if | recorded | replayed | predicted | really | would have met all |\n|---|---:|---:|---:|---:|---:|"
    return f"{_BASIS}\n" + "\n".join([head, *rows]) + "\n"


if __name__ == "__main__":
    main()
