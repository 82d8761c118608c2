"""The page of a check, in Markdown, from its JSON. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

Result = Mapping[str, Any]

_LOADS = "clients_"


def page(found: Mapping[str, Any]) -> str:
    """Return the whole page; what was not run or failed says so."""
    lines = [f"# {_title(found)}", "", *_facts(found), ""]
    groups: Mapping[str, Mapping[str, Result]] = found["groups"]
    lines += ["## Start", "", *_starts(groups), ""]
    lines += ["## Speed", "", *_speeds(groups), ""]
    for group, steps in groups.items():
        for name, result in steps.items():
            if name != "start" and not name.startswith(_LOADS):
                lines += [f"## {group}: {name}", "", *_outcome(result), ""]
    failed = list(_failures(groups))
    lines += ["## Steps without a result", "", *(failed or ["None."]), ""]
    return "\n".join(lines)


def _title(found: Mapping[str, Any]) -> str:
    facts = found["facts"]
    where = facts.get("gpu") or "no GPU"
    kind = "GPU check" if facts["device"] == "cuda" else "Rehearsal on CPU of the GPU check"
    return f"{kind}: {where}"


def _facts(found: Mapping[str, Any]) -> Iterator[str]:
    if found["facts"]["device"] != "cuda":
        yield "This is a rehearsal with a tiny model: it shows that the steps run, and nothing about a GPU."
        yield ""
    yield "| fact | |"
    yield "|---|---|"
    for name, value in found["facts"].items():
        yield f"| {name} | {_shown(value)} |"


def _starts(groups: Mapping[str, Mapping[str, Result]]) -> Iterator[str]:
    yield "| engine | s to the first answer | phases | memory, MiB | KV cache, tokens | the fit check predicts |"
    yield "|---|---:|---|---:|---:|---|"
    for group, steps in groups.items():
        figures = steps.get("start", {}).get("figures")
        if figures:
            phases = ", ".join(f"{name} {took}" for name, took in figures.get("phases", {}).items())
            names = ("used_mib", "kv_tokens", "predicted")
            cells = (figures["seconds"], phases or "-", *(figures.get(name) for name in names))
            yield f"| {group} | {' | '.join(map(_shown, cells))} |"


def _speeds(groups: Mapping[str, Mapping[str, Result]]) -> Iterator[str]:
    yield "| clients | engine | tokens/s | share | TTFT p50, ms | TTFT p95, ms | TPOT p50, ms | requests | failed |"
    yield "|---:|---|---:|---:|---:|---:|---:|---:|---:|"
    rows = []
    for order, (group, steps) in enumerate(groups.items()):
        for name, result in steps.items():
            if name.startswith(_LOADS) and "figures" in result:
                rows.append((int(name.removeprefix(_LOADS)), order, group, result["figures"]))
    for count, _, group, figures in sorted(rows, key=lambda row: row[:2]):
        speed = figures["tokens_per_second"]
        own = groups.get("slipstream", {}).get(f"{_LOADS}{count}", {}).get("figures")
        share = round(speed / own["tokens_per_second"], 2) if own else None
        names = ("ttft_p50_ms", "ttft_p95_ms", "tpot_p50_ms", "requests", "failed")
        cells = [speed, share, *(figures[name] for name in names)]
        yield f"| {count} | {group} | {' | '.join(map(_shown, cells))} |"


def _outcome(result: Result) -> Iterator[str]:
    if "figures" not in result:
        yield _shown(result.get("error") or result["status"])
        return
    yield "| figure | |"
    yield "|---|---|"
    for name, value in result["figures"].items():
        yield f"| {name} | {_shown(value)} |"


def _failures(groups: Mapping[str, Mapping[str, Result]]) -> Iterator[str]:
    for group, steps in groups.items():
        for name, result in steps.items():
            if result["status"] != "done":
                words = " ".join(str(result.get("error", "")).split())[-600:]
                yield f"- {group}, {name}: {result['status']}. {words}"


def _shown(value: object) -> str:
    match value:
        case None:
            return "-"
        case float():
            return f"{value:g}"
        case Mapping():
            return ", ".join(f"{name} {_shown(one)}" for name, one in value.items()) or "-"
        case list() | tuple():
            return ", ".join(_shown(one) for one in value) or "-"
        case _:
            return str(value).replace("|", "\\|").replace("\n", " ")
