"""A busy engine is never taken for a hanging one, and a hanging one is found."""

from slipstream_runtime.engine.stall import StallTimer


def test_an_engine_that_works_is_not_stalled() -> None:
    progress = StallTimer()
    assert [progress.stalled(step, held=1, now=10.0 * step) for step in range(5)] == [0.0] * 5


def test_an_engine_that_holds_requests_and_does_nothing_is_stalled() -> None:
    progress = StallTimer()
    assert [progress.stalled("same", held=1, now=now) for now in (0.0, 10.0, 25.0)] == [0, 10, 25]


def test_an_idle_engine_is_not_stalled_and_its_idle_time_does_not_count() -> None:
    progress = StallTimer()
    assert [progress.stalled("same", held=0, now=now) for now in (0.0, 500.0)] == [0, 0]
    assert progress.stalled("same", held=1, now=501.0) == 1.0


def test_one_sign_of_work_starts_the_time_anew() -> None:
    progress = StallTimer()
    progress.stalled("a", held=1, now=0.0)
    progress.stalled("b", held=1, now=100.0)
    assert progress.stalled("b", held=1, now=130.0) == 30.0
