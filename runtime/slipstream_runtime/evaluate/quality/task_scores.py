"""Scores of a task of lm-evaluation-harness, from the samples of its report. Pure."""

import numbers
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

Scores = dict[str, dict[str, float | None]]
"""Metric -> name of the item -> score, for metrics between 0 and 1. None if the model refused the item."""
_NO_FILTER: Final = "none"


def of(
    samples: Mapping[str, Sequence[Mapping[str, Any]]],
    higher_is_better: Mapping[str, Mapping[str, bool | None]],
    refused: Collection[tuple[str, int]],
) -> Scores:
    """Return the scores of the metrics of which more is better, and all of whose scores lie between 0 and 1."""
    scores: dict[str, dict[str, Any]] = {}
    for task, entries in samples.items():
        for entry in entries:
            for metric in entry["metrics"]:
                if higher_is_better.get(task, {}).get(metric) is False:
                    continue
                name = task if entry["filter"] == _NO_FILTER else f"{task}/{entry['filter']}"
                value = None if (task, entry["doc_id"]) in refused else entry[metric]
                scores.setdefault(f"{name}/{metric}", {})[str(entry["doc_id"])] = value
    return {
        name: {item: None if value is None else float(value) for item, value in found.items()}
        for name, found in scores.items()
        if all(value is None or _is_score(value) for value in found.values())
    }


def _is_score(value: object) -> bool:
    return isinstance(value, numbers.Real) and 0 <= float(value) <= 1
