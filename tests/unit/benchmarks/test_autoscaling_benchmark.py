"""`make bench-autoscaling`: what is played once only, and what its report says plainly."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

import pytest
from rich.progress import Progress

from benchmarks.autoscaling import run, tables
from benchmarks.autoscaling.summary import Scores
from slipstream_simulator import registry, scenarios
from slipstream_simulator.campaign import Job
from slipstream_simulator.score import Score

SCENARIO = scenarios.load(run.FOLDER / "scenarios/01-steady.yaml")


def _score(policy: str, scenario: str, seed: int, **figures: float) -> Score:
    nothing = {field.name: 0 for field in dataclasses.fields(Score)}
    named = {"policy": policy, "scenario": scenario, "seed": seed}
    return Score(**{**nothing, "attainment": 1.0, "gpu_hours": 1.0, **named, **figures})


class _Workers:
    def __init__(self, attained: Callable[[str, int], float] = lambda *_: 1.0) -> None:
        self.played: list[Job] = []
        self._attained = attained
        """By a policy with a seed."""

    def results(self, planned: Sequence[Job]) -> Iterator[tuple[Job, list[Score]]]:
        self.played += planned
        for job in planned:
            yield (
                job,
                [
                    _score(
                        name, job.scenario.name, job.seed, attainment=self._attained(name, job.seed)
                    )
                    for name in job.policies
                ],
            )


def test_what_was_played_is_not_played_again() -> None:
    workers = _Workers()
    arena = run.Arena(Progress(disable=True), workers)
    arena.play(run.ALL, [SCENARIO], ["kaito", "kubeai", "kaito"], seeds=1)
    arena.play(run.BEST, [SCENARIO], ["kaito"], seeds=3)
    assert [(job.policies, job.seed) for job in workers.played] == [
        (("kaito", "kubeai"), 0),
        (("kaito",), 1),
        (("kaito",), 2),
    ]


def test_many_policies_are_played_in_several_jobs() -> None:
    workers = _Workers()
    names = [f"policy-{number}" for number in range(2 * run.BATCH + 1)]
    run.Arena(Progress(disable=True), workers).play(run.ALL, [SCENARIO], names, seeds=1)
    assert [len(job.policies) for job in workers.played] == [run.BATCH, run.BATCH, 1]


def test_a_reserve_is_the_least_that_all_seeds_confirm() -> None:
    enough = {"slipstream@3": {0}, "slipstream@4": {0, 1}}
    workers = _Workers(lambda policy, seed: 1.0 if seed in enough.get(policy, ()) else 0.9)
    arena = run.Arena(Progress(disable=True), workers)
    arena.play(run.BOUNDS, [SCENARIO], [registry.SLIPSTREAM], seeds=2)
    assert run._reserve(arena, [SCENARIO], ["steady"], seeds=2) == {"steady": "slipstream@4"}
    played = [(*job.policies, job.seed) for job in workers.played[2:]]
    assert played == [
        ("slipstream@1", 0),
        ("slipstream@2", 0),
        *[("slipstream@3", 0), ("slipstream@3", 1)],
        *[("slipstream@4", 0), ("slipstream@4", 1)],
    ]


def test_no_reserve_is_looked_for_where_the_goal_is_kept_or_nothing_keeps_it() -> None:
    for attained, policies in ((1.0, 0), (0.5, SCENARIO.scaling.max_replicas)):
        workers = _Workers(lambda *_, share=attained: share)
        arena = run.Arena(Progress(disable=True), workers)
        arena.play(run.BOUNDS, [SCENARIO], [registry.SLIPSTREAM], seeds=1)
        assert run._reserve(arena, [SCENARIO], ["steady"], seeds=1) == {}
        assert len(workers.played) == 1 + policies


def _contest(attained: Iterable[tuple[str, str, float]]) -> tables.Contest:
    scores = Scores(
        _score(policy, scenario, seed, attainment=value, gpu_hours=2.0 + seed)
        for policy, scenario, value in attained
        for seed in range(3)
    )
    reserves, tuned = {"calm": "slipstream@3"}, {"kaito": "kaito@2"}
    return tables.Contest(scores, ["calm", "jump"], ["calm"], reserves, tuned, "kaito@2")


def test_the_report_names_what_the_oracle_keeps_and_where_ours_misses_it() -> None:
    contest = _contest(
        [
            (registry.ORACLE, "calm", 0.995),
            (registry.ORACLE, "jump", 0.9),
            (registry.NOWCAST, "calm", 0.993),
            (registry.NOWCAST, "jump", 0.8),
            (registry.SLIPSTREAM, "calm", 0.98),
            (registry.SLIPSTREAM, "jump", 0.7),
            ("slipstream@3", "calm", 0.992),
            ("kaito@2", "calm", 0.999),
            ("kaito@2", "jump", 0.6),
            ("kaito", "calm", 0.95),
        ]
    )
    text = tables.details(contest, seeds=3, ablations=[], static=[])
    assert "- The oracle keeps 99 % in 1 of 2 scenarios, which are those that count: calm." in text
    assert "- It does not in: jump (90.00%)." in text
    assert "Slipstream does not attain 99 % in 1: calm (98.00%)." in text
    assert (
        "It keeps 99 % in 1 of these 1, with 1.00 times the oracle's GPU-hours. It does not in: none."
        in text
    )
    assert (
        "- Of those that the nowcast keeps, Slipstream does not attain 99 % in: calm (98.00%)."
        in text
    )
    assert "- calm: 98.00% attained, the oracle keeps 99 %." in text
    assert "| calm | 3.00 (2.00 to 4.00) |" in text
    assert "| calm | `slipstream@3` | 99.20% | 98.00% | 3.00 | 3.00 | 3.00 |" in text
    assert (
        "With this standing capacity, Slipstream keeps 99 % in 1 of the 1 scenarios that count"
        in text
    )
    assert "with 1.00 times the oracle's GPU-hours. With this standing capacity there" in text
    assert "in all other scenarios, it would be 1.00 times." in text
    assert "`kaito@2` is the cheapest that attains 99 % in their mean." in text
    assert "Slipstream takes 1.00 of its GPU-hours." in text


def test_policies_are_held_against_each_other_on_the_seeds_that_both_played() -> None:
    scores = Scores(_score("a", "s", seed, attainment=0.9, gpu_hours=1.0 + seed) for seed in (0, 1))
    scores.add([_score("b", "s", 0, attainment=0.8, gpu_hours=2.0)])
    assert scores.ratio("b", "a", ["s"]).middle == 2.0
    assert scores.beyond("b", "a", ["s"]) == pytest.approx(-0.1)


def test_an_interval_holds_the_mean_and_shrinks_with_more_seeds() -> None:
    def width(seeds: int) -> float:
        scores = Scores(_score("a", "s", seed, gpu_hours=float(seed % 2)) for seed in range(seeds))
        middle, low, high = scores.interval("a", "s", lambda score: score.gpu_hours)
        assert low <= middle == 0.5 <= high
        return high - low

    assert width(50) < width(10)


def test_one_seed_has_no_interval() -> None:
    assert (
        tables._shown(Scores([_score("a", "s", 0)]).interval("a", "s", lambda _: 2), ".1f") == "2.0"
    )
