"""Memory of ended work is given back to the kernel after a peak, and only then."""

import asyncio
import contextlib

import pytest

from slipstream_runtime.machine import unused_memory
from slipstream_runtime.machine.unused_memory import UnusedMemory

MIB = 2**20


def looks(*used: int, kept: int) -> list[bool]:
    """Return at which looks memory is given back, if the process has `kept` MiB afterwards."""
    memory, found = UnusedMemory(), []
    for each in used:
        found.append(memory.due(each * MIB))
        if found[-1]:
            memory.gave_back(kept * MIB)
    return found


def test_a_process_without_a_peak_is_left_alone() -> None:
    assert looks(50, 60, 55, 70, 50, 72, kept=50) == [False] * 6


def test_memory_is_given_back_after_a_peak_once() -> None:
    assert looks(50, 200, 52, 51, 52, kept=52) == [False, True, False, False, False]


def test_memory_that_is_still_used_is_tried_again_within_a_minute() -> None:
    assert looks(50, 200, 200, 200, 200, 200, 200, kept=200) == [
        False, True, False, False, True, False, False,
    ]  # fmt: skip


def test_a_higher_peak_is_not_waited_for() -> None:
    assert looks(50, 200, 300, kept=200) == [False, True, True]


def fragmented() -> list[bytes]:
    """Return texts that keep 64 MiB of others, which are freed, from the kernel."""
    held = [bytes(64 * 1024) for _ in range(1024)]
    kept = held[::64]
    del held
    return kept


@pytest.mark.skipif(unused_memory.private() == 0, reason="the kernel reports no memory")
async def test_freed_memory_goes_back_to_the_kernel() -> None:
    giving = asyncio.create_task(unused_memory.keep_giving_back(every=0.01))
    await asyncio.sleep(0)
    before = unused_memory.private()
    kept = fragmented()
    async with asyncio.timeout(60):
        while unused_memory.private() > before + 16 * MIB:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    giving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await giving
    assert len(kept) == 16
