"""Pace of a service's answers, by which answers count that nobody waited for."""

from slipstream_runtime.router.balancing.pace import Pace


def test_no_pace_is_known_before_an_answer() -> None:
    assert Pace().tokens(10) is None


def test_the_highest_pace_counts_for_each_answer() -> None:
    pace = Pace()
    pace.note(prompt=10, output=100, answers=1, seconds=10)
    pace.note(prompt=10, output=800, answers=4, seconds=10)
    pace.note(prompt=10, output=50, answers=1, seconds=10)
    assert pace.tokens(3) == 61


def test_short_answers_and_long_prompts_do_not_make_the_pace_low() -> None:
    pace = Pace()
    pace.note(prompt=10, output=2, answers=1, seconds=10)
    pace.note(prompt=10_000, output=100, answers=1, seconds=10)
    assert pace.tokens(1) is None


def test_a_pace_of_long_ago_is_forgotten() -> None:
    pace = Pace()
    pace.note(prompt=1, output=1_000, answers=1, seconds=1)
    for _ in range(600):
        pace.note(prompt=1, output=100, answers=1, seconds=1)
    assert pace.tokens(1) == 101
