"""Report of an evaluation, as JSON for machines and as a page of Markdown for readers. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from slipstream_runtime.evaluate.quality import scores
from slipstream_runtime.evaluate.quality.metrics import Name
from slipstream_runtime.evaluate.quality.scores import Pair, Result, Score
from slipstream_runtime.evaluate.quality.statistics import MOST_ITEMS, Interval, Verdict

_PERCENT = 100.0
_SHOWN_CHARACTERS = 4000
_SHOWN_MESSAGES = 20
"""Characters of a text, and newest messages or references of an item, that an example shows."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of one model's answers, those that an earlier run left included. Seconds are those of the requests."""

    requests: int
    refused: int
    prompt_tokens: int
    output_tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """Result of an evaluation."""

    dataset: str
    sha256: str | None
    size: int
    """Items of the dataset."""
    items: int
    """Items that were asked."""
    results: tuple[Result, ...]
    costs: Mapping[str, Cost]
    examples: int
    """Number of worst regressions that are shown with both answers."""
    duplicates: int = 0
    """Items of the dataset that repeat an earlier one, and were left out."""

    @property
    def verdict(self) -> Verdict | None:
        """Verdict over all metrics; None if none has a greatest loss."""
        return scores.overall(self.results)

    def as_json(self) -> dict[str, Any]:
        """Return plain data; figures without a finite value are null."""
        data: dict[str, Any] = {
            "verdict": self.verdict,
            "dataset": {
                "name": self.dataset,
                "sha256": self.sha256,
                "size": self.size,
                "items": self.items,
                "duplicates": self.duplicates,
            },
            "metrics": [_metric(result) for result in self.results],
            "costs": {role: asdict(cost) for role, cost in self.costs.items()},
        }
        if self.examples:
            data["examples"] = [
                {"metric": result.name, "loss": loss} | _example(pair)
                for result, loss, pair in self._worst()
            ]
        return {key: _finite(value) for key, value in data.items()}

    def as_markdown(self) -> str:
        """Return the page."""
        verdict = self.verdict or "measured, no greatest loss set"
        repeated = f" {_items(self.duplicates)} repeat an earlier one." if self.duplicates else ""
        parts = [
            "# Quality of answers",
            f"Verdict: **{verdict}**. {self.items} of {self.size} items of `{self.dataset}`.{repeated}",
            _table(_HEAD, [_row(result.name, result.total, result) for result in self.results]),
        ]
        parts += [f"- {line}" for result in self.results if (line := explain(result))]
        for result in self.results:
            if result.slices:
                rows = [_row(key or "(none)", score, None) for key, score in result.slices.items()]
                parts += [
                    f"## {result.name} by slice",
                    _table(_HEAD[:-1], [row[:-1] for row in rows]),
                ]
                if result.slices_left_out:
                    parts.append(f"{result.slices_left_out} slices with fewer items are not shown.")
        parts += ["## Cost", _costs(self.costs)]
        worst = self._worst()
        if worst:
            parts.append("## Worst regressions")
            parts += [_shown(result, loss, pair) for result, loss, pair in worst]
        return "\n\n".join(parts) + "\n"

    def _worst(self) -> list[tuple[Result, float, Pair]]:
        """Return the worst items, each once, with the metric by which it loses most."""
        found = [(result, loss, pair) for result in self.results for loss, pair in result.worst]
        found.sort(key=lambda entry: -entry[1])
        first = {pair.item.name: (result, loss, pair) for result, loss, pair in reversed(found)}
        return sorted(first.values(), key=lambda entry: -entry[1])[: self.examples]


_HEAD = ("metric", "items", "score", "95 %", "baseline", "loss", "95 %", "p", "verdict")


def explain(result: Result) -> str | None:
    """Return one sentence on the verdict of a metric; None for a metric without a greatest loss."""
    if result.verdict is None or result.max_regression is None:
        return None
    line = _explained(result, result.max_regression)
    if result.refused:
        line += f" The candidate refused {_items(result.refused)}."
    if result.left_out:
        line += f" {_items(result.left_out)} could not be compared."
    return line


def _items(number: int) -> str:
    return f"{number} item" if number == 1 else f"{number} items"


def _explained(result: Result, max_regression: float) -> str:
    most = percent(max_regression)
    comparison = result.total.comparison
    if comparison is None:
        return f"{result.name}: could not be compared. Check the answers of both models."
    if scores.shows_nothing(result.total, max_regression):
        score = figure(result.name, result.total.baseline)
        return (
            f"{result.name}: the baseline scores {score}, so no candidate could lose "
            f"more than {most}. Check the references, and whether the baseline knows the task."
        )
    loss = comparison.loss
    span = f"{percent(loss.low)} to {percent(loss.high)}"
    if result.verdict is Verdict.PASSED:
        return f"{result.name}: the loss is at most {percent(loss.high)}, below the greatest allowed loss of {most}."
    if result.verdict is Verdict.FAILED:
        return f"{result.name}: the loss is {span}, above the greatest allowed loss of {most}."
    remedy = (
        f"About {result.items_needed} items would tell."
        if result.items_needed
        else f"It is so close to {most} that {MOST_ITEMS} items would not tell."
    )
    return f"{result.name}: {comparison.items} items can't tell whether the loss ({span}) is below {most}. {remedy}"


def percent(share: float) -> str:
    """Return the share in percent, with as many digits as a reader needs."""
    if not math.isfinite(share):
        return "unknown"
    return f"{share * _PERCENT:.2f} %"


def figure(name: str, score: Interval | None) -> str:
    """Return the estimate of a metric's score, in percent unless it is a perplexity."""
    if score is None:
        return "-"
    if name == Name.PERPLEXITY:
        return f"{score.estimate:.4g}"
    return percent(score.estimate)


def _metric(result: Result) -> dict[str, Any]:
    return {
        "metric": result.name,
        **_score(result.total),
        "maxRegression": result.max_regression,
        "verdict": result.verdict,
        "itemsNeeded": result.items_needed,
        "leftOut": result.left_out,
        "refused": result.refused,
        "firstTokenKl": result.divergence,
        "slices": {key: _score(score) for key, score in result.slices.items()},
        "slicesLeftOut": result.slices_left_out,
    }


def _score(score: Score) -> dict[str, Any]:
    comparison = score.comparison
    return {
        "items": score.items,
        "score": _interval(score.candidate),
        "baseline": _interval(score.baseline),
        "loss": _interval(comparison.loss) if comparison else None,
        "p": comparison.p if comparison else None,
    }


def _interval(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else asdict(interval)


def _example(pair: Pair) -> dict[str, Any]:
    return {
        "item": pair.item.name,
        "slice": pair.item.slice,
        "question": [
            {"role": m["role"], "content": _short(m["content"])}
            for m in pair.item.conversation[-_SHOWN_MESSAGES:]
        ],
        "references": [_short(text) for text in pair.item.references[:_SHOWN_MESSAGES]],
        "baseline": _short(pair.baseline.text) if pair.baseline else None,
        "candidate": _short(pair.candidate.error or pair.candidate.text),
    }


def _short(text: str) -> str:
    """Return the text, or its beginning and the number of characters that are not shown."""
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    return f"{text[:_SHOWN_CHARACTERS]}… ({len(text) - _SHOWN_CHARACTERS} more characters)"


def _row(name: str, score: Score, result: Result | None) -> tuple[str, ...]:
    comparison = score.comparison
    loss = comparison.loss if comparison else None
    return (
        name,
        str(score.items),
        figure(name, score.candidate),
        _span(score.candidate) if score.candidate and name != Name.PERPLEXITY else "-",
        figure(name, score.baseline),
        percent(loss.estimate) if loss else "-",
        _span(loss) if loss else "-",
        f"{comparison.p:.3g}" if comparison else "-",
        str(result.verdict or "-") if result else "-",
    )


def _span(interval: Interval) -> str:
    return f"{percent(interval.low)} to {percent(interval.high)}"


def _costs(costs: Mapping[str, Cost]) -> str:
    rows = [
        (
            role,
            str(cost.requests),
            str(cost.refused),
            str(cost.prompt_tokens),
            str(cost.output_tokens),
            f"{cost.seconds:.1f} s",
        )
        for role, cost in costs.items()
    ]
    return _table(("model", "requests", "refused", "prompt tokens", "output tokens", "time"), rows)


def _shown(result: Result, loss: float, pair: Pair) -> str:
    example = _example(pair)
    question = "\n".join(f"{m['role']}: {m['content']}" for m in example["question"])
    return "\n\n".join(
        (
            f"### Item {pair.item.name}: {result.name} loses {percent(loss)}",
            _fenced(question),
            f"Baseline:\n\n{_fenced(example['baseline'] or '')}",
            f"Candidate:\n\n{_fenced(example['candidate'])}",
        )
    )


def _fenced(text: str) -> str:
    """Return the text as a block of code, with a fence that the text doesn't contain."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in line)} |"
        for line in lines
    )


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
