"""The tables and the plot of RESULTS.md."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from matplotlib import figure as drawing

from benchmarks.autoscaling.summary import GOAL, Figure, Interval, Scores, Totals, front
from slipstream_simulator import registry


@dataclass(frozen=True)
class Contest:
    """Results of the benchmark: scores, counted scenarios and the best tuned peer."""

    scores: Scores
    scenarios: Sequence[str]
    counted: Sequence[str]
    """Scenarios whose goal the oracle keeps."""
    reserves: dict[str, str]
    """Scenario whose goal Slipstream misses -> Slipstream with the least `minReplicas` that keeps it."""
    tuned: dict[str, str]
    """Peer -> its name with the best knob."""
    best: str

    def ratio(self, other: str, *, of: str = registry.SLIPSTREAM) -> Interval:
        """GPU-hours of a policy over another's in the counted scenarios."""
        return self.scores.ratio(of, other, self.counted)

    def totals(self, policy: str) -> Totals:
        """Of a policy, over the counted scenarios."""
        return self.scores.totals(policy, self.counted)

    def mean(self, policy: str, scenario: str, figure: Figure) -> float:
        """Over the seeds."""
        return self.scores.mean(policy, scenario, figure)

    def attained(self, policy: str, scenario: str) -> float:
        """Mean share of the requests inside all their limits."""
        return self.mean(policy, scenario, lambda score: score.attainment)

    def hours(self, policy: str, scenario: str) -> float:
        """Mean GPU-hours."""
        return self.mean(policy, scenario, lambda score: score.gpu_hours)


def details(
    contest: Contest, *, seeds: int, ablations: Sequence[str], static: Sequence[str]
) -> str:
    """All that RESULTS.md says after the headline figures."""
    ratio, against = contest.ratio(registry.ORACLE), contest.ratio(contest.best)
    basis = (
        f"{len(contest.scenarios)} scenarios. Slipstream, the oracle, the nowcast, the static counts and the best "
        f"tuned peers run with {_seeds(seeds)}, all others with the first seed. Each peer has one knob for all "
        "scenarios, chosen on each third of those that count.\n\n"
        f"GPU-hours of Slipstream over the oracle's: {_shown(ratio, '.2f')}. GPU-hours of Slipstream over those of "
        f"`{contest.best}`, which attains {contest.totals(contest.best).attainment:.2%}: {_shown(against, '.2f')}. "
        "Brackets hold 95 % intervals, by a bootstrap of the seeds."
    )
    order = (registry.SLIPSTREAM, registry.ORACLE, registry.NOWCAST, *static, *ablations)
    return (
        "\n\n".join(
            [
                basis,
                "![attainment and GPU-hours](pareto.png)",
                "## What can be kept, and what Slipstream keeps",
                _kept(contest),
                "## What 99 % costs without foresight",
                _reserves(contest, static),
                "## Where Slipstream loses",
                _losses(contest),
                "## Attainment by scenario",
                _attainment(contest, static),
                "## GPU-hours by scenario",
                (
                    "Above and below: replica-hours that Slipstream requests beyond the oracle's count, and "
                    "replica-hours of the oracle's count that it has not ready."
                ),
                _hours(contest, static),
                "## Steadiness and safety of Slipstream by scenario",
                (
                    "Flaps are changes that reverse one of the last 15 minutes. Recovery is from the first minute that "
                    "misses the objectives to three good minutes in a row. The last four columns count unsafe "
                    "decisions: fewer replicas while less than 80 % of the pods report, fewer replicas in an outage "
                    "of Prometheus, none with requests in flight, out of limits. Values are means of a run."
                ),
                _steadiness(contest),
                "## All policies, in the scenarios that count",
                _policies(
                    contest, list(dict.fromkeys([*order, *contest.tuned, *contest.tuned.values()]))
                ),
            ]
        )
        + "\n"
    )


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"


def _shown(interval: Interval, form: str) -> str:
    """`1.20 (1.10 to 1.30)`; without the interval where it shows nothing."""
    middle, low, high = (f"{one:{form}}" for one in interval)
    return middle if low == high else f"{middle} ({low} to {high})"


def _kept(contest: Contest) -> str:
    kept = contest.scores.kept(registry.ORACLE, contest.scenarios)
    others = _without(contest.scenarios, kept)
    missed = _without(kept, contest.scores.kept(registry.SLIPSTREAM, kept))
    seen = contest.scores.kept(registry.NOWCAST, kept)
    hours = contest.ratio(registry.ORACLE, of=registry.NOWCAST).middle
    return "\n".join(
        [
            (
                f"- The oracle keeps 99 % in {len(kept)} of {len(contest.scenarios)} scenarios, which are those that "
                f"count: {', '.join(kept) or 'none, so all are counted'}."
            ),
            f"- It does not in: {_each(contest, registry.ORACLE, others)}.",
            (
                f"- Of those that the oracle keeps, Slipstream does not attain 99 % in {len(missed)}: "
                f"{_each(contest, registry.SLIPSTREAM, missed)}."
            ),
            (
                "- Without foresight: the nowcast knows every request up to the last scrape, and nothing about later "
                f"ones. It keeps 99 % in {len(seen)} of these {len(kept)}, with {hours:.2f} times the oracle's "
                f"GPU-hours. It does not in: {_each(contest, registry.NOWCAST, _without(kept, seen))}."
            ),
            (
                "- Of those that the nowcast keeps, Slipstream does not attain 99 % in: "
                f"{_each(contest, registry.SLIPSTREAM, [one for one in missed if one in seen])}."
            ),
        ]
    )


def _reserves(contest: Contest, static: Sequence[str]) -> str:
    """Return the standing capacity with which Slipstream keeps the goal in scenarios where it misses it otherwise."""
    if not contest.reserves:
        return "Standing capacity would keep 99 % in no further scenario."
    rows = [
        (
            name,
            f"`{policy}`",
            *(f"{contest.attained(one, name):.2%}" for one in (policy, registry.SLIPSTREAM)),
            *(
                f"{contest.hours(one, name):.2f}"
                for one in (policy, registry.SLIPSTREAM, registry.ORACLE)
            ),
        )
        for name, policy in contest.reserves.items()
    ]
    head = ("policy", "attained", "without", "GPU-h", "without", "oracle")
    chosen = {name: contest.reserves.get(name, registry.SLIPSTREAM) for name in contest.counted}
    kept = [name for name, policy in chosen.items() if contest.scores.keeps(policy, name)]
    attained = statistics.fmean(contest.attained(policy, name) for name, policy in chosen.items())
    hours = sum(contest.hours(policy, name) for name, policy in chosen.items())
    least = sum(
        contest.hours(contest.reserves.get(name, registry.ORACLE), name) for name in contest.counted
    )
    oracle = contest.totals(registry.ORACLE).gpu_hours
    return "\n\n".join(
        [
            (
                "A replica that is requested when load jumps is late by its start-up time. Meeting the objective "
                "through a jump requires standing capacity: `slipstream@6` is Slipstream with `minReplicas` 6. The "
                "table shows the least `minReplicas` that keeps 99 %, for the scenarios in which Slipstream misses it "
                "otherwise:"
            ),
            _table(("scenario", *head), rows),
            (
                f"With this standing capacity, Slipstream keeps 99 % in {len(kept)} of the {len(chosen)} scenarios "
                f"that count. It attains {attained:.2%} in their mean, with {hours / oracle:.2f} times the oracle's "
                "GPU-hours. "
                "With this standing capacity there, and the oracle itself in all other scenarios, it would be "
                f"{least / oracle:.2f} times. "
                f"{_beside(contest, hours, static)}"
            ),
        ]
    )


def _beside(contest: Contest, hours: float, static: Sequence[str]) -> str:
    """The cheapest other policy without foresight that attains 99 %, too."""
    others = {name: contest.totals(name) for name in (*static, *contest.tuned.values())}
    able = {name: one.gpu_hours for name, one in others.items() if one.attainment >= GOAL}
    if not able:
        return "No tuned peer and no static count attains 99 % in their mean."
    least = min(able, key=lambda name: able[name])
    return (
        f"Of the tuned peers and the static counts, `{least}` is the cheapest that attains 99 % in their mean. "
        f"Slipstream takes {hours / able[least]:.2f} of its GPU-hours."
    )


def _without(names: Sequence[str], others: Sequence[str]) -> list[str]:
    return [one for one in names if one not in others]


def _each(contest: Contest, policy: str, names: Sequence[str]) -> str:
    return ", ".join(f"{one} ({contest.attained(policy, one):.2%})" for one in names) or "none"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _attainment(contest: Contest, static: Sequence[str]) -> str:
    others = (registry.ORACLE, registry.NOWCAST, *static, contest.best)
    return _table(
        ("scenario", registry.SLIPSTREAM, *others),
        (
            (
                name,
                _shown(
                    contest.scores.interval(
                        registry.SLIPSTREAM, name, lambda score: score.attainment
                    ),
                    ".2%",
                ),
                *(f"{contest.attained(other, name):.2%}" for other in others),
            )
            for name in contest.scenarios
        ),
    )


def _hours(contest: Contest, static: Sequence[str]) -> str:
    others = (registry.ORACLE, registry.NOWCAST, *static, contest.best)
    return _table(
        ("scenario", registry.SLIPSTREAM, "over the oracle's", "above", "below", *others),
        (
            (
                name,
                _shown(
                    contest.scores.interval(
                        registry.SLIPSTREAM, name, lambda score: score.gpu_hours
                    ),
                    ".2f",
                ),
                _shown(contest.scores.ratio(registry.SLIPSTREAM, registry.ORACLE, [name]), ".2f"),
                f"{contest.mean(registry.SLIPSTREAM, name, lambda s: s.over_replica_hours or 0.0):.2f}",
                f"{contest.mean(registry.SLIPSTREAM, name, lambda s: s.under_replica_hours or 0.0):.2f}",
                *(f"{contest.hours(other, name):.2f}" for other in others),
            )
            for name in contest.scenarios
        ),
    )


_STEADINESS: Final[Mapping[str, tuple[Figure, str]]] = {
    "flaps/h": (lambda score: score.flaps_per_hour, ".1f"),
    "changes/h": (lambda score: score.changes_per_hour, ".1f"),
    "recovery, s": (lambda score: score.recover_s, ".0f"),
    "down unseen": (lambda score: score.down_while_incomplete, ".1f"),
    "down in outage": (lambda score: score.removed_in_outage, ".1f"),
    "none": (lambda score: score.zero_with_requests, ".1f"),
    "out of limits": (lambda score: score.out_of_bounds, ".1f"),
}


def _steadiness(contest: Contest) -> str:
    return _table(
        ("scenario", *_STEADINESS),
        (
            (
                name,
                *(
                    _shown(contest.scores.interval(registry.SLIPSTREAM, name, figure), form)
                    for figure, form in _STEADINESS.values()
                ),
            )
            for name in contest.scenarios
        ),
    )


def _losses(contest: Contest) -> str:
    """Scenarios in which Slipstream misses what the oracle keeps, or a tuned peer keeps the goal for less."""
    lines = []
    for name in contest.scenarios:
        own, hours = (
            contest.attained(registry.SLIPSTREAM, name),
            contest.hours(registry.SLIPSTREAM, name),
        )
        if contest.attained(registry.ORACLE, name) >= GOAL > own:
            lines.append(f"- {name}: {own:.2%} attained, the oracle keeps 99 %.")
        better = [
            peer
            for peer in contest.tuned.values()
            if contest.attained(peer, name) >= min(GOAL, own) and contest.hours(peer, name) < hours
        ]
        if better:
            least = min(better, key=lambda peer: contest.hours(peer, name))
            spent = contest.hours(least, name)
            lines.append(
                f"- {name}: `{least}` needs {spent:.2f} GPU-hours, Slipstream {hours:.2f}."
            )
    return "\n".join(lines) or "Nowhere."


def _policies(contest: Contest, names: Sequence[str]) -> str:
    """Beside the oracle and Slipstream on the seeds that both played: most played the first alone."""
    rows = []
    for name in names:
        totals = contest.totals(name)
        unsafe = sum(
            one.safety for each in contest.counted for one in contest.scores.of(name, each)
        )
        rows.append(
            (
                name,
                f"{totals.attainment:.2%}",
                f"{totals.gpu_hours:.2f}",
                f"{contest.scores.ratio(name, registry.ORACLE, contest.counted).middle:.2f}",
                f"{100 * contest.scores.beyond(name, registry.SLIPSTREAM, contest.counted):+.2f}",
                f"{contest.scores.ratio(name, registry.SLIPSTREAM, contest.counted).middle:.2f}",
                str(unsafe),
            )
        )
    head = (
        "attained",
        "GPU-h",
        "over oracle",
        "points beyond slipstream",
        "over slipstream",
        "unsafe",
    )
    return _table(("policy", *head), rows)


def plot(contest: Contest, *, static: Sequence[str], path: Path) -> None:
    """Attainment over GPU-hours, one point a policy; those that nothing beats have names."""
    names = (
        registry.SLIPSTREAM,
        registry.ORACLE,
        registry.NOWCAST,
        *static,
        *contest.tuned.values(),
    )
    points = {name: contest.totals(name) for name in names}
    named = {*front(points), registry.SLIPSTREAM, registry.NOWCAST, contest.best}
    figure = drawing.Figure(figsize=(7, 4), dpi=90, layout="constrained")
    axes = figure.subplots()
    for name, one in points.items():
        color = "tab:red" if name == registry.SLIPSTREAM else "tab:blue"
        axes.plot(one.gpu_hours, 100 * one.attainment, "o", color=color)
        if name in named:
            at = (one.gpu_hours, 100 * one.attainment)
            offset = (4, -11) if name == registry.SLIPSTREAM else (4, 4)
            axes.annotate(name, at, xytext=offset, textcoords="offset points", fontsize=8)
    axes.set(xlabel="GPU-hours", ylabel="attained, %")
    axes.grid(alpha=0.3)
    figure.savefig(path)
