"""`make bench-rollout`: how often an equal canary is rolled back, how early a slow one is, and what a rollback loses.

Rollouts are simulated. One more runs with real engines and a real router.
"""

import os
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.progress import track

from benchmarks import report
from benchmarks.rollout import rollback
from benchmarks.rollout.fleet import SCENARIOS, Fleet, Scenario
from slipstream_operator.core.comparison.judgement import Verdict

FOLDER: Final = Path(__file__).parent
ROLLOUTS: Final = 1_000
SLOW_ROLLOUTS: Final = 120
STEPS: Final = (5, 25, 50)
REQUESTS: Final = 2_000
"""Requests of both revisions in a step."""
SLOWER: Final = 1.2
_LEAST: Final = 100
"""Rollouts whose figures are kept."""

MEANINGS: Final = {
    "false_rollbacks": "share of rollouts of an equal canary that were rolled back; target 0.01",
    "caught_share_of_step": "share of a step of 2,000 requests until a canary 20 % slower is found to be worse: "
    "median at the first step, where the canary gets 5 %; target 0.1",
    "caught_share_of_step_at_25": "the same at the step with 25 %",
    "caught_share_of_step_at_50": "the same at the step with 50 %",
    "rollouts": "simulated rollouts of an equal canary",
    "missed": "share of these steps in which the slower canary was not found",
    "lost_requests": "requests without a whole answer in a rollback of real engines under load; target 0",
    "requests": "requests during that rollback",
}


@dataclass(frozen=True)
class Played:
    """One simulated rollout."""

    scenario: str
    step: int | None
    """Share of the canary in percent when it was found to be worse; None if it never was."""
    requests: int = 0
    """Requests of the step until then."""
    reasons: tuple[str, ...] = ()
    passed: int = 0
    """Steps at whose end the canary was proved not to be worse."""


def play(scenario: Scenario, seed: int, slow: float, steps: Sequence[int]) -> Played:
    """Run a rollout to its end, or until the canary is found to be worse."""
    fleet = Fleet(scenario, seed=seed, slow=slow)
    passed = 0
    for step in steps:
        verdict = None
        for requests, judgement in fleet.looks(step, REQUESTS):
            if judgement is None:
                continue
            verdict = judgement.verdict
            if verdict is Verdict.WORSE:
                names = tuple(finding.measure.name for finding in judgement.reasons)
                return Played(scenario.name, step, requests, names, passed)
        passed += verdict is Verdict.NOT_WORSE
    return Played(scenario.name, None, passed=passed)


def play_all(
    pool: ProcessPoolExecutor, jobs: Sequence[tuple[Scenario, int, float, Sequence[int]]], what: str
) -> list[Played]:
    """Run rollouts on all cores."""
    found = pool.map(play, *zip(*jobs, strict=True), chunksize=1)
    console = Console(file=sys.stderr)
    return list(track(found, total=len(jobs), description=what, console=console))


def numbered(
    count: int, slow: float, steps: Sequence[int]
) -> list[tuple[Scenario, int, float, Sequence[int]]]:
    """Return rollouts of all scenarios in turn."""
    return [(SCENARIOS[number % len(SCENARIOS)], number, slow, steps) for number in range(count)]


@click.command()
@click.option(
    "--rollouts", default=ROLLOUTS, show_default=True, help="Rollouts of an equal canary."
)
@click.option("--slow", default=SLOW_ROLLOUTS, show_default=True, help="Rollouts of a slower one.")
def main(*, rollouts: int, slow: int) -> None:
    """Simulate rollouts of equal and of slower canaries, and roll one back under load."""
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        equal = play_all(pool, numbered(rollouts, 1.0, STEPS), "equal canaries")
        slower = {
            step: play_all(pool, numbered(slow, SLOWER, (step,)), f"slower, {step} %")
            for step in STEPS
        }
    back = rollback.run()
    caught = {step: median(each) for step, each in slower.items()}
    missed = [one.step is None for each in zip(*slower.values(), strict=True) for one in each]
    figures: dict[str, float | str | None] = {
        "false_rollbacks": round(statistics.mean(one.step is not None for one in equal), 4),
        "caught_share_of_step": caught[5],
        "caught_share_of_step_at_25": caught[25],
        "caught_share_of_step_at_50": caught[50],
        "rollouts": rollouts,
        "missed": round(statistics.mean(missed), 4),
        "lost_requests": back.lost,
        "requests": back.requests,
    }
    report.publish(
        folder=FOLDER,
        title="Rollouts",
        command="make bench-rollout",
        figures=figures,
        meanings=MEANINGS,
        details=details(equal, slower, back),
        kept=rollouts >= _LEAST and slow >= len(SCENARIOS),
    )


def median(played: Iterable[Played]) -> float:
    """Return the median share of a step until the canary was found; a missed one counts as all of it."""
    shares = [REQUESTS if one.step is None else one.requests for one in played]
    return round(statistics.median(shares) / REQUESTS, 3)


def details(
    equal: Sequence[Played], slower: dict[int, list[Played]], back: rollback.Outcome
) -> str:
    """Return a table for each scenario."""
    names = [scenario.name for scenario in SCENARIOS]
    basis = (
        "Each rollout has the steps 5 %, 25 % and 50 % of 2,000 requests each, which are judged after each scrape "
        "(15 s) with a tolerance of 10 %. The slower canary runs each step alone. A miss counts as the whole step.\n"
    )
    rows = [
        basis,
        "| scenario | equal: rolled back | by | steps passed of 3 | "
        + " | ".join(f"slower, {step} %: median, 90th percentile, missed" for step in slower)
        + " |",
        "|---|---:|---|---:|" + "---:|" * len(slower),
    ]
    for name in names:
        own = [one for one in equal if one.scenario == name]
        if not own:
            continue
        by = Counter(reason for one in own for reason in one.reasons)
        cells = [
            f"{sum(one.step is not None for one in own)} of {len(own)}",
            ", ".join(f"{reason} {count}" for reason, count in by.items()) or "-",
            f"{statistics.mean(one.passed for one in own):.2f}",
        ]
        for each in slower.values():
            of = [one for one in each if one.scenario == name]
            shares = sorted(REQUESTS if one.step is None else one.requests for one in of)
            if not shares:
                cells.append("-")
                continue
            tail = shares[min(len(shares) - 1, round(0.9 * len(shares)))]
            missed = sum(one.step is None for one in of)
            cells.append(
                f"{statistics.median(shares) / REQUESTS:.3f}, {tail / REQUESTS:.3f}, {missed} of {len(of)}"
            )
        rows.append(f"| {name} | {' | '.join(cells)} |")
    found = "not found" if back.caught_at is None else f"found after {back.caught_at} requests"
    rows.append(
        f"\nThe rollback under load ran with {rollback.CLIENTS} clients and {rollback.STEP} % of the requests at a "
        f"canary 20 % slower, which was {found}. Its engine then stopped."
    )
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
