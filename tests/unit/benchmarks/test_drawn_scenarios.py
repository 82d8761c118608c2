"""`make bench-drawn-scenarios`: what is drawn is valid, various, and the same each time."""

from benchmarks.drawn_scenarios.draw import LOADS, draw


def test_what_is_drawn_is_the_same_each_time() -> None:
    assert [draw(number, seed=1) for number in range(5)] == [
        draw(number, seed=1) for number in range(5)
    ]


def test_another_seed_draws_others() -> None:
    assert draw(0, seed=1) != draw(0, seed=2)


def test_all_kinds_of_load_and_some_faults_are_drawn() -> None:
    drawn = [draw(number, seed=1) for number in range(100)]
    assert {one.name.split("-")[2] for one in drawn} == set(LOADS)
    assert 10 < sum(bool(one.events) for one in drawn) < 60
    assert len({one.engine for one in drawn}) == 3
