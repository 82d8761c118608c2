"""Reports of a build as tables and as plain data."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from slipstream_runtime import contract
from slipstream_runtime.model_files import space

_UNKNOWN: Final = "-"


def show_plan(plan: Mapping[str, Any]) -> None:
    """Print what the build would cost."""
    console = _console()
    table = Table("stage", title="Expected cost", title_justify="left", box=None)
    for name in ("memory", "disk", "time"):
        table.add_column(name, justify="right")
    for stage in plan["stages"]:
        table.add_row(
            stage["stage"], _size(stage["memory"]), _size(stage["disk"]), _time(stage["seconds"])
        )
    table.add_row("all", _size(plan["memory"]), _size(plan["disk"]), _time(plan["seconds"]))
    console.print(table)
    for stage in plan["stages"]:
        if note := stage.get("note"):
            console.print(f"{stage['stage']}: {note}")
    for note in plan["notes"]:
        console.print(f"Warning: {note}")
    source = plan["source"]
    console.print(f"Source: {_size(source['bytes'])}, {source['parameters']:,} parameters.")


def show_comparison(found: Mapping[str, Any]) -> None:
    """Print how two artifacts differ."""
    console = _console()
    if found["equal"]:
        console.print(f"Equal: all {found['same']} files have the same content.")
    else:
        table = Table("file", "first", "second", box=None)
        for file in found["files"]:
            table.add_row(file["name"], *(_digest(file[side]) for side in ("first", "second")))
        console.print(table)
        count = len(found["files"])
        differ = "1 file differs" if count == 1 else f"{count} files differ"
        console.print(f"{differ}, and {found['same']} are equal.")
    if found["lineage"]:
        table = Table("lineage", "first", "second", box=None)
        for part in found["lineage"]:
            table.add_row(part["field"], *(_value(part[side]) for side in ("first", "second")))
        console.print(table)


def _digest(sha256: str | None) -> str:
    return "missing" if sha256 is None else sha256[:12]


def _value(value: Any) -> str:
    return _UNKNOWN if value is None else str(value)


def line(report: Mapping[str, Any]) -> str:
    """Return one line about a finished stage."""
    parts = [_time(report.get("seconds"))]
    if verdict := report.get("verdict"):
        parts.append(str(verdict))
    if size := report.get("bytes"):
        parts.append(_size(size))
    return f"{report['stage']}: {', '.join(parts)}"


def show(reports: Sequence[Mapping[str, Any]]) -> None:
    """Print the stages, the quality of each checkpoint, and the artifact."""
    console = _console()
    table = Table("stage", box=None)
    for name in ("time", "peak memory", "size", "quality"):
        table.add_column(name, justify="right")
    for report in reports:
        table.add_row(
            report["stage"],
            _time(report.get("seconds")),
            _size(report.get("peakMemory")),
            _size(report.get("bytes")),
            str(report.get("verdict") or _UNKNOWN),
        )
    console.print(table)
    _show_quality(console, reports)
    found = plain(reports)
    if found["uri"] is not None:
        before, after = found["sizeBefore"], found["sizeAfter"]
        smaller = f", {after / before:.0%} of the source" if before and after else ""
        console.print(f"Size: {_size(before)} before, {_size(after)} after{smaller}.")
        console.print(f"Artifact: {found['uri']}, manifest sha256 {found['sha256']}.")


def plain(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return all reports as plain data; None is unknown."""
    by_stage = {report["stage"]: report for report in reports}
    published = by_stage.get(contract.PUBLISH_STAGE, {})
    source = by_stage.get(contract.SOURCE_STAGE, {})
    peaks = [report["peakMemory"] for report in reports if report.get("peakMemory")]
    return {
        "uri": published.get("uri"),
        "digest": published.get("digest"),
        "sha256": published.get("sha256"),
        "sizeBefore": source.get("bytes"),
        "sizeAfter": published.get("bytes"),
        "peakMemory": max(peaks, default=None),
        "seconds": round(sum(report.get("seconds") or 0 for report in reports), 1),
        "stages": [dict(report) for report in reports],
    }


def _show_quality(console: Console, reports: Sequence[Mapping[str, Any]]) -> None:
    """Print the metrics of each evaluation."""
    table = Table("evaluation", "metric", box=None)
    for name in ("score", "source", "loss, 95 %", "verdict"):
        table.add_column(name, justify="right")
    for report in reports:
        for metric in report.get("metrics", ()):
            low, high = metric.get("lossLow"), metric.get("lossHigh")
            table.add_row(
                report["stage"],
                metric["name"],
                _figure(metric["name"], metric.get("candidate")),
                _figure(metric["name"], metric.get("baseline")),
                _UNKNOWN if low is None or high is None else f"{low:.2%} to {high:.2%}",
                str(metric.get("verdict") or _UNKNOWN),
            )
        if "acceptance" in report:
            table.add_row(
                report["stage"],
                "accepted draft tokens",
                _figure("", report["acceptance"]),
                _UNKNOWN,
                _UNKNOWN,
                str(report.get("verdict") or _UNKNOWN),
            )
            table.add_row(
                report["stage"],
                "tokens per step",
                _figure("Perplexity", report.get("tokensPerStep")),
                _figure("Perplexity", report.get("baselineTokensPerStep")),
                _UNKNOWN,
                _UNKNOWN,
            )
    if table.rows:
        console.print(table)


def _figure(metric: str, value: float | None) -> str:
    """Return a score, in percent unless it is a perplexity."""
    if value is None:
        return _UNKNOWN
    return f"{value:.4g}" if metric == "Perplexity" else f"{value:.2%}"


def _size(number: float | None) -> str:
    return _UNKNOWN if number is None else space.size(number)


def _time(seconds: float | None) -> str:
    if seconds is None:
        return _UNKNOWN
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest:.0f} s" if minutes else f"{rest:.1f} s"


def _console() -> Console:
    return Console(width=100, highlight=False, markup=False)
