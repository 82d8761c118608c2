"""Which waiting sequences run together: never too many, never mostly padding, and the oldest always."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream_runtime.onnx.batching import USEFUL, BatchLimits, choose, window

LIMITS = st.builds(BatchLimits, sequences=st.integers(1, 12), tokens=st.integers(1, 600))
LENGTHS = st.lists(st.integers(1, 200), min_size=1, max_size=60)


@pytest.mark.parametrize(
    ("lengths", "chosen"),
    [
        ([], []),
        ([7], [0]),
        ([10, 10, 10, 10, 10], [0, 1, 2, 3]),
        ([10, 200, 10, 200, 10], [0, 2, 4]),
        ([200, 10, 190, 10, 180], [0, 2]),
        ([900, 1], [0]),
        ([12, 9, 9, 9, 15], [0, 1, 2, 3]),
    ],
    ids=[
        "nothing waits",
        "one waits",
        "no more than may run",
        "like lengths",
        "no more tokens than fit",
        "one that is too long for any batch runs alone",
        "the least padding",
    ],
)
def test_a_batch_is(lengths: list[int], chosen: list[int]) -> None:
    assert choose(lengths, limits=BatchLimits(sequences=4, tokens=400)) == chosen


@given(LENGTHS, LIMITS)
def test_the_oldest_is_always_in_the_next_batch(lengths: list[int], limits: BatchLimits) -> None:
    batch = choose(lengths, limits=limits)
    assert batch[0] == 0
    assert batch == sorted(set(batch))


@given(LENGTHS, LIMITS)
def test_a_batch_keeps_its_limits(lengths: list[int], limits: BatchLimits) -> None:
    batch = choose(lengths, limits=limits)
    assert len(batch) <= limits.sequences
    assert batch[-1] < window(limits)
    sizes = [lengths[index] for index in batch]
    padded = max(sizes) * len(sizes)
    assert len(batch) == 1 or (padded <= limits.tokens and sum(sizes) >= USEFUL * padded)


@given(LENGTHS, LIMITS)
def test_every_sequence_runs_once_and_waits_for_no_more_batches_than_there_were_before_it(
    lengths: list[int], limits: BatchLimits
) -> None:
    waiting = list(range(len(lengths)))
    served: dict[int, int] = {}
    for batch in range(len(lengths)):
        chosen = choose([lengths[index] for index in waiting], limits=limits)
        for place in chosen:
            served[waiting[place]] = batch
        waiting = [index for place, index in enumerate(waiting) if place not in chosen]
    assert not waiting
    assert all(batch <= index for index, batch in served.items())
    assert len(served) == len(lengths)


@given(st.integers(1, 200), st.integers(1, 40), LIMITS)
def test_equal_lengths_run_in_the_order_in_which_they_came(
    length: int, count: int, limits: BatchLimits
) -> None:
    batch = choose([length] * count, limits=limits)
    assert batch == list(range(len(batch)))
