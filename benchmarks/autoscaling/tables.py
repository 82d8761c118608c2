"""The tables and the plot of RESULTS.md."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.autoscaling.summary import GOAL, Scores, Totals, front
from slipstream_operator.simulator.policies import registry


@dataclass(frozen=True)
class Contest:
    """Who played what, and which tuned peer was best."""

    scores: Scores
    scenarios: Sequence[str]
    counted: Sequence[str]
    """Scenarios whose goal the oracle keeps."""
    tuned: dict[str, str]
    """Peer -> its name with the best knob."""
    best: str

    def ratio(self, other: str) -> tuple[float, float, float]:
        """GPU-hours of ours over another's in the counted scenarios, and its 95 % interval."""
        return self.scores.ratio(registry.OURS, other, self.counted)

    def totals(self, policy: str) -> Totals:
        """Of a policy, over the counted scenarios."""
        return self.scores.totals(policy, self.counted)


def details(
    contest: Contest, *, seeds: int, ablations: Sequence[str], static: Sequence[str]
) -> str:
    """All that RESULTS.md says after the headline figures."""
    ratio, low, high = contest.ratio(registry.ORACLE)
    against, least, most = contest.ratio(contest.best)
    left_out = [name for name in contest.scenarios if name not in contest.counted]
    basis = (
        f"{len(contest.scenarios)} scenarios; {seeds} seeds for ours, the oracle, the static counts and "
        "the best tuned peers, the first seed for all others. One knob for all scenarios, chosen on each "
        "third of them. "
        f"GPU-hours over the oracle's: {ratio:.2f} (95 % interval {low:.2f} to {high:.2f}); over those of "
        f"`{contest.best}`, which attains {contest.totals(contest.best).attainment:.2%}: {against:.2f} "
        f"({least:.2f} to {most:.2f}). Not counted, since the oracle does not keep 99 % there: "
        f"{', '.join(left_out) or 'none'}."
    )
    order = (registry.OURS, registry.ORACLE, *static, *ablations)
    return (
        "\n\n".join(
            [
                basis,
                "![attainment and GPU-hours](pareto.png)",
                "## Scenario by scenario, ours",
                _scenarios(contest),
                "## Where we lose",
                _losses(contest),
                "## All policies, in the scenarios that count",
                _policies(contest, [*order, *contest.tuned, *contest.tuned.values()]),
            ]
        )
        + "\n"
    )


def _scenarios(contest: Contest) -> str:
    rows = [
        "| scenario | attained | oracle | best peer | GPU-h | over oracle | its GPU-h | flaps/h | recovery | unsafe |",
        "|---|" + "---:|" * 9,
    ]
    mean = contest.scores.mean
    for name in contest.scenarios:
        hours = mean(registry.OURS, name, lambda s: s.gpu_hours)
        rows.append(
            f"| {name} | "
            + " | ".join(
                f"{mean(policy, name, lambda s: s.attainment):.2%}"
                for policy in (registry.OURS, registry.ORACLE, contest.best)
            )
            + f" | {hours:.2f} | {hours / mean(registry.ORACLE, name, lambda s: s.gpu_hours):.2f}"
            + f" | {mean(contest.best, name, lambda s: s.gpu_hours):.2f}"
            + f" | {mean(registry.OURS, name, lambda s: s.flaps_per_hour):.1f}"
            + f" | {mean(registry.OURS, name, lambda s: s.recover_s):.0f}"
            + f" | {sum(one.safety for one in contest.scores.of(registry.OURS, name))} |"
        )
    return "\n".join(rows)


def _losses(contest: Contest) -> str:
    """Scenarios in which ours misses what the oracle keeps, or a tuned peer keeps the goal for less."""
    lines = []
    mean = contest.scores.mean
    for name in contest.scenarios:
        ours = mean(registry.OURS, name, lambda s: s.attainment)
        hours = mean(registry.OURS, name, lambda s: s.gpu_hours)
        if name in contest.counted and ours < GOAL:
            lines.append(f"- {name}: {ours:.2%} attained, the oracle keeps 99 %.")
        better = [
            peer
            for peer in contest.tuned.values()
            if mean(peer, name, lambda s: s.attainment) >= min(GOAL, ours)
            and mean(peer, name, lambda s: s.gpu_hours) < hours
        ]
        if better:
            least = min(better, key=lambda peer: mean(peer, name, lambda s: s.gpu_hours))
            spent = mean(least, name, lambda s: s.gpu_hours)
            lines.append(f"- {name}: `{least}` needs {spent:.2f} GPU-hours, ours {hours:.2f}.")
    return "\n".join(lines) or "Nowhere."


def _policies(contest: Contest, names: Sequence[str]) -> str:
    rows = ["| policy | attained | GPU-h | over oracle | unsafe |", "|---|---:|---:|---:|---:|"]
    least = contest.totals(registry.ORACLE).gpu_hours
    for name in names:
        totals = contest.totals(name)
        unsafe = sum(
            one.safety for each in contest.counted for one in contest.scores.of(name, each)
        )
        rows.append(
            f"| {name} | {totals.attainment:.2%} | {totals.gpu_hours:.2f} "
            f"| {totals.gpu_hours / least:.2f} | {unsafe} |"
        )
    return "\n".join(rows)


def plot(contest: Contest, *, static: Sequence[str], path: Path) -> None:
    """Attainment over GPU-hours, one point a policy; those that nothing beats have names."""
    names = (registry.OURS, registry.ORACLE, *static, *contest.tuned.values())
    points = {name: contest.totals(name) for name in names}
    named = {*front(points), registry.OURS, contest.best}
    figure = Figure(figsize=(7, 4), dpi=90, layout="constrained")
    axes = figure.subplots()
    for name, one in points.items():
        color = "tab:red" if name == registry.OURS else "tab:blue"
        axes.plot(one.gpu_hours, 100 * one.attainment, "o", color=color)
        if name in named:
            at = (one.gpu_hours, 100 * one.attainment)
            axes.annotate(name, at, xytext=(4, 4), textcoords="offset points", fontsize=8)
    axes.set(xlabel="GPU-hours", ylabel="attained, %")
    axes.grid(alpha=0.3)
    figure.savefig(path)
