"""The oracle: the cheapest schedule for a need, the orders that it leads to, and the search for the need."""

import itertools
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream_simulator.policies import capacity, oracle, schedule
from slipstream_simulator.policies.schedule import Schedule
from tests.support import views

NEEDS = st.lists(st.integers(0, 3), min_size=1, max_size=6)


@given(needs=NEEDS, initial=st.integers(0, 3), start=st.sampled_from([0.0, 15.0, 45.0, 100.0]))
def test_no_schedule_that_has_what_is_needed_is_cheaper(
    needs: list[int], initial: int, start: float
) -> None:
    found = schedule.cheapest(Schedule(30.0, tuple(needs)), initial=initial, start=start)
    highest = max(*needs, initial)
    least = min(
        Schedule(30.0, counts).gpu_seconds(initial=initial, start=start)
        for counts in itertools.product(*(range(need, highest + 1) for need in needs))
    )
    assert all(one >= need for one, need in zip(found.replicas, needs, strict=True))
    assert found.gpu_seconds(initial=initial, start=start) == pytest.approx(least)


def test_a_replica_is_kept_through_a_gap_shorter_than_a_start() -> None:
    need = Schedule(30.0, (3, 1, 1, 3, 1, 1, 1, 1, 3, 1))
    found = schedule.cheapest(need, initial=3, start=100.0)
    assert found.replicas == (3, 3, 3, 3, 1, 1, 1, 1, 3, 1)


def test_a_pod_is_asked_for_a_start_ahead() -> None:
    orders = schedule.orders(
        Schedule(60.0, (1, 1, 1, 3)), initial=1, cold_start=lambda number: [120.0, 90.0][number]
    )
    assert orders.requested == (60.0, 90.0)
    assert [orders.starting(now) for now in (59, 60, 90, 179, 180)] == [0, 1, 2, 2, 0]


def test_a_slow_start_draws_the_ones_before_it_forward() -> None:
    orders = schedule.orders(
        Schedule(60.0, (1, 1, 1, 2, 3)), initial=1, cold_start=lambda number: [30.0, 200.0][number]
    )
    assert orders.requested == (40.0, 40.0)


def test_the_oracle_has_each_pod_ready_when_it_is_due() -> None:
    timetable = Schedule(30.0, (2, 2, 2, 2, 2, 2, 5, 5, 3))
    policy = oracle.Oracle(timetable, 2, lambda number: 120.0 - 10 * number)
    counts = views.driven(policy, lambda *_: {}, replicas=2, until=300)
    at = {5 * index: count for index, count in enumerate(counts)}
    changes = {now: count for now, count in at.items() if count != at.get(now - 5, 2)}
    assert changes == {55: 3, 65: 4, 75: 5, 240: 3}


def _true_need(need: tuple[int, ...]) -> Callable[[Schedule], float]:
    """All windows count alike; one with fewer replicas than it needs fails."""

    def judge(found: Schedule) -> float:
        pairs = zip(found.replicas, need, strict=True)
        return sum(have >= wanted for have, wanted in pairs) / len(need)

    return judge


FLEET = oracle.Fleet(minimum=1, maximum=20, initial=1, start=60.0)


def test_the_search_finds_the_need_that_the_load_only_hints_at() -> None:
    need = (2,) * 40 + (9,) * 20 + (4,) * 40
    work = [1.6] * 40 + [6.0] * 20 + [3.9] * 40
    found = oracle.plan(work, _true_need(need), FLEET, judgements=200)
    assert sum(have < wanted for have, wanted in zip(found.replicas, need, strict=True)) <= 1
    assert sum(found.replicas) <= sum(need) + 3


def test_more_judgements_give_no_dearer_schedule() -> None:
    need = tuple(round(5 + 4 * math.sin(index / 7)) for index in range(100))
    work = [0.7 * one for one in need]
    costs = [
        sum(oracle.plan(work, _true_need(need), FLEET, judgements=judgements).replicas)
        for judgements in (15, 60, 240)
    ]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] > costs[-1]


def test_nothing_is_saved_in_the_warm_up() -> None:
    judged: list[Schedule] = []

    def judge(found: Schedule) -> float:
        judged.append(found)
        return 1.0 if min(found.replicas) >= 4 else 0.0

    found = oracle.plan([4.0] * 20, judge, FLEET, warmup=300.0)
    assert found.replicas == (4,) * 20
    tried = {one.replicas for one in judged if len(set(one.replicas)) > 1}
    assert (4,) * 10 + (3,) * 10 in tried
    assert all(replicas[:10] == (4,) * 10 for replicas in tried)


def test_no_schedule_is_judged_twice() -> None:
    judged: list[Schedule] = []

    def judge(found: Schedule) -> float:
        judged.append(found)
        return 1.0 if min(found.replicas) >= 4 else 0.0

    oracle.plan([4.0] * 20, judge, FLEET)
    assert len(judged) == len(set(judged))


def test_where_nothing_keeps_the_goal_the_whole_fleet_runs() -> None:
    found = oracle.plan([1.0] * 10, lambda _: 0.5, FLEET)
    assert found.replicas == (20,) * 10


def test_the_load_of_a_window_is_what_its_requests_take() -> None:
    one = capacity.rate(views.ENGINE, views.OBJECTIVES, prompt=1024, output=128)
    times = [index / one for index in range(round(60 * one))]
    found = oracle.load(
        times,
        [1000] * len(times),
        [130] * len(times),
        duration=90.0,
        engine=views.ENGINE,
        objectives=views.OBJECTIVES,
    )
    assert found == pytest.approx((1.0, 1.0, 0.0), abs=0.05)
