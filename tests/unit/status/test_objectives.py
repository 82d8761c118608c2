"""Objectives: what a histogram says of them, as PromQL would."""

import math
from collections.abc import Sequence

import hypothesis
import pytest
from hypothesis import strategies as st

from slipstream_operator.core import histograms, objectives
from slipstream_operator.core.histograms import Histogram

INF = math.inf
TEN = histograms.from_buckets([(0.1, 50.0), (0.5, 90.0), (1.0, 100.0), (INF, 100.0)])
SLOW = histograms.from_buckets([(0.1, 5.0), (0.5, 8.0), (INF, 10.0)])
EMPTY = histograms.from_buckets([])
IDLE = histograms.from_buckets([(0.1, 0.0), (INF, 0.0)])


@pytest.mark.parametrize(
    ("histogram", "share", "expected"),
    [
        pytest.param(TEN, 0.5, 0.1, id="at a bound"),
        pytest.param(TEN, 0.25, 0.05, id="inside the first bucket, from zero"),
        pytest.param(TEN, 0.7, 0.3, id="inside a bucket: 0.1 + 0.4 * 20 / 40"),
        pytest.param(TEN, 0.95, 0.75, id="inside the next: 0.5 + 0.5 * 5 / 10"),
        pytest.param(TEN, 1.0, 1.0, id="the slowest"),
        pytest.param(SLOW, 0.95, 0.5, id="beyond the last bound, its lower bound"),
        pytest.param(EMPTY, 0.5, None, id="no buckets"),
        pytest.param(IDLE, 0.5, None, id="no requests"),
    ],
)
def test_a_quantile(histogram: Histogram, share: float, expected: float | None) -> None:
    assert histograms.linear_quantile(histogram, share) == (
        expected if expected is None else pytest.approx(expected)
    )


@pytest.mark.parametrize(
    ("histogram", "target", "expected"),
    [
        pytest.param(TEN, 0.1, 0.5, id="at a bound"),
        pytest.param(TEN, 0.05, 0.25, id="inside the first bucket"),
        pytest.param(TEN, 0.3, 0.7, id="inside a bucket"),
        pytest.param(TEN, 5.0, 1.0, id="beyond the last bound, with nothing there"),
        pytest.param(SLOW, 2.0, 0.8, id="beyond the last bound nobody knows, so it is missed"),
        pytest.param(EMPTY, 0.5, None, id="no buckets"),
        pytest.param(IDLE, 0.5, None, id="no requests"),
    ],
)
def test_attainment(histogram: Histogram, target: float, expected: float | None) -> None:
    assert histograms.linear_attainment(histogram, target) == (
        expected if expected is None else pytest.approx(expected)
    )


@pytest.mark.parametrize(
    ("share", "attained", "expected"),
    [(0.95, 1.0, 1.0), (0.95, 0.975, 0.5), (0.95, 0.95, 0.0), (0.95, 0.90, -1.0), (0.5, 0.75, 0.5)],
)
def test_the_error_budget(share: float, attained: float, expected: float) -> None:
    assert objectives.budget_remaining(share, attained) == pytest.approx(expected)


def test_buckets_come_in_any_order_and_are_made_cumulative() -> None:
    found = histograms.from_buckets([(INF, 9.0), (0.5, 10.0), (0.1, 4.0)])
    assert tuple(found.buckets) == ((0.1, 4.0), (0.5, 10.0), (INF, 10.0))


@st.composite
def _histograms(draw: st.DrawFn) -> Histogram:
    bounds: Sequence[float] = sorted(draw(st.sets(st.floats(0.001, 100.0), min_size=1, max_size=6)))
    counts = draw(st.lists(st.integers(0, 50), min_size=len(bounds) + 1, max_size=len(bounds) + 1))
    cumulative = [float(sum(counts[: index + 1])) for index in range(len(counts))]
    return histograms.from_buckets(list(zip([*bounds, INF], cumulative, strict=True)))


SHARES = st.floats(0.0, 1.0)


@hypothesis.given(_histograms(), SHARES, SHARES)
def test_a_higher_percentile_is_never_faster(
    histogram: Histogram, one: float, other: float
) -> None:
    low, high = (
        histograms.linear_quantile(histogram, share) for share in (min(one, other), max(one, other))
    )
    assert (low is None) == (high is None)
    assert low is None or high is None or low <= high + 1e-9


@hypothesis.given(_histograms(), st.floats(0.001, 200.0), st.floats(0.001, 200.0))
def test_a_looser_target_is_never_attained_less(
    histogram: Histogram, one: float, other: float
) -> None:
    strict, loose = (
        histograms.linear_attainment(histogram, target)
        for target in (min(one, other), max(one, other))
    )
    assert (strict is None) == (loose is None)
    assert strict is None or loose is None or 0.0 <= strict <= loose + 1e-9 <= 1.0 + 2e-9
