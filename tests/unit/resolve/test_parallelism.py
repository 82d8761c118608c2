"""How a replica is spread: what was given decides, what was not follows from it."""

from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.core import parallelism
from slipstream_operator.core.parallelism import Split
from slipstream_operator.errors import PermanentError
from tests.support import given


def split(count: int | None, **ways: int) -> Split:
    spec: dict[str, Any] = {"model": given.MODEL, "replicas": 1, "parallelism": ways}
    if count is not None:
        spec["accelerator"] = {"count": count}
    return parallelism.split(InferenceServiceSpec.model_validate(spec), dedicated=True)


@pytest.mark.parametrize(
    ("count", "ways", "expected"),
    [
        (None, {}, Split()),
        (4, {}, Split(tensor=4)),
        (4, {"pipeline": 2}, Split(tensor=2, pipeline=2)),
        (8, {"pipeline": 2, "data": 2}, Split(tensor=2, pipeline=2, data=2)),
        (4, {"tensor": 4}, Split(tensor=4)),
        (2, {"data": 2}, Split(data=2)),
        (None, {"tensor": 2, "pipeline": 3}, Split(tensor=2, pipeline=3)),
    ],
)
def test_the_rest_follows_from_what_is_given(
    count: int | None, ways: dict[str, int], expected: Split
) -> None:
    assert split(count, **ways) == expected


@for_all(st.integers(1, 64), st.fixed_dictionaries({}, optional={
    "tensor": st.integers(1, 8), "pipeline": st.integers(1, 8), "data": st.integers(1, 8),
}))  # fmt: skip
def test_the_ways_multiply_to_the_count_or_it_is_refused(count: int, ways: dict[str, int]) -> None:
    try:
        found = split(count, **ways)
    except PermanentError:
        return
    assert found.total == count
    assert all(getattr(found, way) == size for way, size in ways.items())


def test_the_accelerators_of_all_ways_are_asked_for() -> None:
    spec = {"model": given.MODEL, "parallelism": {"tensor": 2, "pipeline": 2, "data": 2}}
    revisioned = given.resolved(spec).revisioned
    assert revisioned.resources["limits"] == {"nvidia.com/gpu": "8"}
    assert {key: value for key, value in revisioned.config.items() if key.endswith("Parallel")} == {
        "tensorParallel": 2,
        "pipelineParallel": 2,
        "dataParallel": 2,
    }
