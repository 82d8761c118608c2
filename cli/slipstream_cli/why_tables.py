"""Reports of `slipstream why`, as tables of 80 columns and as plain data."""

import dataclasses
import datetime
import math
from collections.abc import Mapping
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from slipstream_operator.core import wording
from slipstream_simulator.recorded import causes
from slipstream_simulator.recorded import report as reports
from slipstream_simulator.recorded.attribution import METRICS, Attained, Shares
from slipstream_simulator.recorded.causes import CAUSES, LABELS
from slipstream_simulator.recorded.report import Report
from slipstream_simulator.recorded.requests import Recorded
from slipstream_simulator.recorded.what_if import Outcome, WhatIf

_UNKNOWN: Final = "-"
_TRUSTED: Final = 0.03
"""Difference in attainment between replay and recording from which a replay is no basis for a decision."""
_BAR: Final = 30
"""Columns of the bar of a request's longest cause."""


def show(report: Report) -> None:
    """Print requests, objectives, causes and advice."""
    console = _console()
    console.print(
        f"{report.service}: {wording.counted(report.requests, 'request')} from {_clock(report.since)} to "
        f"{_clock(report.until)}, {wording.replicas(report.replicas)}."
    )
    console.print(_ends(report))
    _show_latency(console, report)
    table = Table("share of the time", box=None, title_justify="left")
    columns = [("TTFT", report.causes.ttft), ("E2E", report.causes.e2e)]
    if report.attained:
        columns[1:1] = [("of missed", report.causes.missed_ttft)]
        columns.append(("of missed", report.causes.missed_e2e))
    for name, _ in columns:
        table.add_column(name, justify="right")
    for cause in CAUSES:
        if any(cause in shares.by_cause for _, shares in columns):
            table.add_row(LABELS[cause], *(_share(shares, cause) for _, shares in columns))
    console.print(table)
    if unknown := report.answered - report.divided:
        console.print(
            f"Unknown: the time in the replica by cause, of {wording.counted(unknown, 'request')} without a record of "
            "an engine."
        )
    for _, sentence in report.advice:
        console.print(f"- {sentence}")


def _ends(report: Report) -> str:
    parts = [f"{report.answered} answered"]
    if report.attained:
        parts.append(f"{report.missed} of them missed an objective")
    parts += [f"{count} refused with {status}" for status, count in report.refused.items()]
    if report.broken:
        parts.append(f"{report.broken} broke off")
    if report.cancelled:
        parts.append(f"{report.cancelled} canceled by their clients")
    return f"{', '.join(parts)}."


def _show_latency(console: Console, report: Report) -> None:
    table = Table("latency", box=None)
    for name in (*reports.QUANTILES, "objective", "inside, of needed"):
        table.add_column(name, justify="right")
    for metric in METRICS:
        found = report.latency[metric]
        kept = [one for one in report.attained if one.objective.metric == metric]
        first, *more = [(_target(one), _within(one)) for one in kept] or [("", "")]
        table.add_row(metric.upper(), *(_time(found[name]) for name in reports.QUANTILES), *first)
        for one in more:
            table.add_row("", *("" for _ in reports.QUANTILES), *one)
    console.print(table)


def _target(one: Attained) -> str:
    return f"{one.objective.percentile} {one.objective.text}"


def _within(one: Attained) -> str:
    if one.share is None:
        return _UNKNOWN
    return f"{one.share:.1%} of {one.objective.share:.0%}"


def _share(shares: Shares, cause: str) -> str:
    if not shares.seconds:
        return _UNKNOWN
    return f"{shares.by_cause.get(cause, 0.0):.1%}"


def show_request(one: Recorded) -> None:
    """Print when the parts of a request's time began and how long they took."""
    console = _console()
    console.print(
        f"Arrived at {_clock(one.arrived, fine=True)}, {one.outcome} with status {one.status}, by "
        f"{one.replica or 'no replica'}: {one.prompt} prompt tokens, {one.output} output tokens."
    )
    table = Table("cause", box=None)
    table.add_column("began", justify="right")
    table.add_column("took", justify="right")
    table.add_column("")
    parts = causes.until_end(one)
    began, longest = 0.0, max(parts.values())
    for cause in CAUSES:
        spent = parts.get(cause, 0.0)
        if spent <= 0:
            continue
        bar = "#" * max(1, round(_BAR * spent / longest))
        table.add_row(LABELS[cause], f"+{_time(began)}", _time(spent), bar)
        began += spent
    console.print(table)
    ends = [
        f"{name} {_time(found)}"
        for name, found in (("TTFT", one.ttft), ("TPOT", one.tpot), ("E2E", one.e2e))
    ]
    retries = f" {wording.agreeing(one.retries, 'retry', 'retries')}." if one.retries else ""
    console.print(f"{', '.join(ends)}.{retries}")


def show_what_if(found: WhatIf) -> None:
    """Print what the changed settings would have done, and how far to trust it."""
    console = _console()
    changes = ", ".join(f"{name}={value}" for name, value in found.changes.items())
    table = Table(f"with {changes}", box=None)
    for name in ("recorded", "replayed", "changed"):
        table.add_column(name, justify="right")
    outcomes = (found.recorded, found.replayed, found.changed)
    if found.recorded.attained:
        table.add_row("all objectives", *(_percent(one.attainment) for one in outcomes))
    for index, one in enumerate(found.recorded.attained):
        table.add_row(
            f"{one.objective.metric.upper()} {_target(one)}",
            *(_percent(outcome.attained[index].share) for outcome in outcomes),
        )
    for metric in METRICS:
        for name in ("p50", "p95"):
            table.add_row(
                f"{metric.upper()} {name}",
                *(_time(reports.percentiles(o.latencies, metric)[name]) for o in outcomes),
            )
    console.print(table)
    if found.recorded.attained:
        console.print(_recovered(found))
    console.print(_trust(found))


def _recovered(found: WhatIf) -> str:
    missed = sum(found.recorded.missed)
    lost = sum(
        now and not was
        for was, now in zip(found.recorded.missed, found.changed.missed, strict=True)
    )
    others = f", and {wording.counted(lost, 'other')} would have missed one" if lost else ""
    return (
        f"{found.recovered} of {wording.counted(missed, 'request')} that missed an objective would have met "
        f"all{others}."
    )


def _trust(found: WhatIf) -> str:
    """Return the origin of the step times, and how well they reproduce the recording."""
    used = found.fitted.parameters
    origin = f"Step times {found.fitted.source}"
    if found.fitted.requests:
        origin += f" ({wording.counted(found.fitted.requests, 'request')})"
    text = (
        f"{origin}: {_time(used.alpha)} + {_time(used.beta)} a sequence + {_time(used.gamma)} a KV token + "
        f"{_time(used.delta)} a prompt token; overhead {_time(found.overhead)}."
    )
    if found.error is None or not found.recorded.attained:
        return text
    text += f" With the present settings, the replay is {_points(found.error)} off the recording."
    if abs(found.error) > _TRUSTED:
        text += " That is too much to rely on it: record more requests, or a steadier time."
    return text


def _points(share: float) -> str:
    return f"{abs(100 * share):.1f} points"


def plain(report: Report) -> dict[str, Any]:
    """Return the report for JSON."""
    return {
        "service": report.service,
        "since": _iso(report.since),
        "until": _iso(report.until),
        "requests": {
            "total": report.requests,
            "answered": report.answered,
            "missed": report.missed if report.attained else None,
            "withEngineRecord": report.divided,
            "refused": {str(status): count for status, count in report.refused.items()},
            "broken": report.broken,
            "canceled": report.cancelled,
        },
        "replicas": report.replicas,
        "latency": report.latency,
        "objectives": [_plain_objective(one) for one in report.attained],
        "causes": {
            "ttft": _plain_shares(report.causes.ttft),
            "e2e": _plain_shares(report.causes.e2e),
            "missedTtft": _plain_shares(report.causes.missed_ttft),
            "missedE2e": _plain_shares(report.causes.missed_e2e),
        },
        "advice": [{"cause": cause, "text": text} for cause, text in report.advice],
    }


def plain_request(one: Recorded) -> dict[str, Any]:
    """Return a request for JSON."""
    return {
        "arrived": _iso(one.arrived),
        "replica": one.replica or None,
        "status": one.status,
        "outcome": one.outcome,
        "retries": one.retries,
        "promptTokens": one.prompt,
        "outputTokens": one.output,
        "seconds": causes.until_end(one),
        "ttft": one.ttft,
        "tpot": one.tpot,
        "e2e": one.e2e,
    }


def plain_what_if(found: WhatIf) -> dict[str, Any]:
    """Return a replay for JSON."""
    parameters = found.fitted.parameters
    return {
        "changes": dict(found.changes),
        "stepTimes": {
            "source": found.fitted.source,
            "requests": found.fitted.requests,
            "overhead": found.overhead,
            **dataclasses.asdict(parameters),
        },
        "judged": len(found.recorded.missed),
        "missed": sum(found.recorded.missed),
        "recovered": found.recovered,
        "recorded": _plain_outcome(found.recorded),
        "replayed": _plain_outcome(found.replayed),
        "changed": _plain_outcome(found.changed),
    }


def _plain_outcome(one: Outcome) -> dict[str, Any]:
    return {
        "attainment": one.attainment if one.attained else None,
        "objectives": [_plain_objective(each) for each in one.attained],
        "latency": {
            metric: {
                name: None if value is None or math.isinf(value) else value
                for name, value in reports.percentiles(one.latencies, metric).items()
            }
            for metric in METRICS
        },
    }


def _plain_objective(one: Attained) -> dict[str, Any]:
    return {
        "objective": one.objective.name,
        "target": one.objective.target,
        "attained": one.share,
        "requests": one.known,
        "met": one.met,
    }


def _plain_shares(shares: Shares) -> dict[str, Any] | None:
    if not shares.seconds:
        return None
    by_cause: Mapping[str, float] = shares.by_cause
    return {"requests": shares.requests, "seconds": shares.seconds, "byCause": dict(by_cause)}


def _percent(share: float | None) -> str:
    return _UNKNOWN if share is None else f"{share:.1%}"


def _time(seconds: float | None) -> str:
    """Return a time with three digits and its unit."""
    if seconds is None:
        return _UNKNOWN
    if seconds == 0:
        return "0 s"
    if math.isinf(seconds):
        return "never"
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def _clock(at: float, *, fine: bool = False) -> str:
    form = "%Y-%m-%d %H:%M:%S"
    found = datetime.datetime.fromtimestamp(at, tz=datetime.UTC)
    return found.strftime(f"{form}.%f" if fine else form)[:23] + " UTC"


def _iso(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, tz=datetime.UTC).isoformat(timespec="milliseconds")


def _console() -> Console:
    return Console(width=80, highlight=False, markup=False)
