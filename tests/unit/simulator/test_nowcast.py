"""Who knows the load of the last scrape, and nothing of what comes."""

from slipstream_operator.core.scaling.metrics.values import Sample, Samples, Unknown
from slipstream_simulator.policies import schedule
from slipstream_simulator.policies.nowcast import Nowcast
from tests.support import views

JUMP = schedule.Schedule(15.0, (2, 2, 5, 5, 5, 5, 5, 5, 1, 1, 1, 1, 1, 1, 1, 1))


def _age(seconds: float) -> dict[str, list[Sample]]:
    return {"age": [Sample({}, seconds)]}


def test_it_asks_for_what_the_last_scrape_showed() -> None:
    counts = views.driven(Nowcast(JUMP), lambda *_: _age(12.0), replicas=2, until=100)
    first = next(index for index, count in enumerate(counts) if count > 2)
    assert 5 * first == 60  # the 15 s from 30 s on are known at 45 s, 12 s later


def test_it_learns_nothing_while_prometheus_is_silent() -> None:
    def answers(now: float, *_: object) -> Samples:
        return {"age": Unknown("no answer")} if now > 20 else _age(0.0)

    counts = views.driven(Nowcast(JUMP), answers, replicas=2, until=200)
    assert set(counts) == {2}


def test_it_holds_what_was_needed_in_the_last_minute() -> None:
    counts = views.driven(Nowcast(JUMP), lambda *_: _age(0.0), replicas=5, until=240)
    # The last 15 s with a need of 5 end at 120 s.
    assert [counts[second // 5] for second in (120, 175, 180)] == [5, 5, 1]


def test_what_was_not_served_is_worked_off_in_a_minute() -> None:
    policy = Nowcast(schedule.Schedule(30.0, (4,)))
    look = views.view(1, _age(0.0))
    assert [policy.decide(look) for _ in range(4)] == [5, 5, 5, 5]
    for _ in range(100):
        policy.decide(look)
    assert policy.decide(look) == 8
    served = views.view(8, _age(0.0))
    for _ in range(12):
        policy.decide(served)
    assert policy.decide(served) == 4
