"""Scores of tasks of lm-evaluation-harness: which metrics count, and what a refused item is."""

import math
from typing import Any

import numpy as np

from slipstream_runtime.evaluate.quality import scores, task_scores
from slipstream_runtime.evaluate.quality.statistics import Verdict


def samples(metric: str, *values: Any) -> dict[str, list[dict[str, Any]]]:
    entries = [
        {"doc_id": number, "filter": "none", "metrics": [metric], metric: value}
        for number, value in enumerate(values)
    ]
    return {"house": entries}


def test_scores_between_0_and_1_are_read_by_task_metric_and_item() -> None:
    found = task_scores.of(samples("acc", 1.0, np.float64(0.5), True), {}, ())
    assert found == {"house/acc": {"0": 1.0, "1": 0.5, "2": 1.0}}


def test_a_metric_of_which_less_is_better_is_left_out() -> None:
    below = {"house": {"wer": False}}
    assert task_scores.of(samples("wer", 0.1, 0.2), below, ()) == {}


def test_a_metric_beyond_1_is_left_out_as_a_whole_and_not_by_item() -> None:
    assert task_scores.of(samples("rouge", 0.4, 37.5), {}, ()) == {}
    assert task_scores.of(samples("em", 1.0, math.nan), {}, ()) == {}
    assert task_scores.of(samples("ppl", (1, 2), (3, 4)), {}, ()) == {}


def test_a_refused_item_is_wrong_for_the_candidate_and_left_out_for_the_baseline() -> None:
    refused = task_scores.of(samples("acc", 1.0, 1.0, 0.0), {}, {("house", 0)})["house/acc"]
    all_right = task_scores.of(samples("acc", 1.0, 1.0, 1.0), {}, ())["house/acc"]
    worse = scores.measured("acc", refused, all_right, max_regression=0.1)
    assert (worse.total.items, worse.refused, worse.left_out) == (3, 1, 0)
    assert worse.total.comparison is not None
    assert worse.total.comparison.counts == (2, 0)
    fewer = scores.measured("acc", all_right, refused, max_regression=0.1)
    assert (fewer.total.items, fewer.refused, fewer.left_out) == (2, 0, 1)


def test_a_metric_that_one_model_lacks_passes_nothing() -> None:
    found = scores.measured("acc", {}, {"0": 1.0}, max_regression=0.1)
    assert found.verdict is Verdict.INCONCLUSIVE
