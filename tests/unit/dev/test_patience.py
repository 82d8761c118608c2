from collections.abc import Iterator

import pytest

from dev.errors import DevError
from dev.patience import Patience, follow


class Clock:
    """A clock that moves on by one second each time that it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


async def waiting(states: Iterator[int], *, target: int, seconds: float) -> int:
    seen = 0

    def observe() -> int:
        nonlocal seen
        seen = next(states)
        return seen

    await follow(
        observe,
        lambda: seen == target,
        patience=Patience(seconds, clock=Clock()),
        what=lambda: f"Waited for {target}, saw {seen}.",
        remedy="look",
        interval=0,
    )
    return seen


async def test_waiting_lasts_as_long_as_something_changes() -> None:
    assert await waiting(iter(range(1000)), target=900, seconds=10) == 900


async def test_waiting_ends_once_nothing_has_changed_for_the_whole_time() -> None:
    stuck = iter([1, 2, *[3] * 100])
    with pytest.raises(DevError, match=r"nothing has changed for 10 s\. Waited for 4, saw 3\."):
        await waiting(stuck, target=4, seconds=10)
