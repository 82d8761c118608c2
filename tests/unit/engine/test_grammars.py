"""Turns of requests at the trials of structures, however long the process that tries them takes."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from slipstream_runtime.engine.grammars import COSTLY, Grammars
from slipstream_runtime.web.refusal import Refusal
from tests.support.clients import turns


class Trials:
    """Process that tries structures, played by the test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.asked: asyncio.Queue[tuple[int, str]] = asyncio.Queue()
        """Numbers of jobs and their regular expressions."""

    async def read(self) -> None:
        while True:
            size = int.from_bytes(await self._reader.readexactly(4), "big")
            number, structures = json.loads(await self._reader.readexactly(size))
            self.asked.put_nowait((number, structures[0]["regex"]))

    def answer(self, number: int, reason: str = "") -> None:
        self._writer.write(json.dumps([number, reason]).encode() + b"\n")

    async def next(self) -> tuple[int, str]:
        async with asyncio.timeout(60):
            return await self.asked.get()


@contextlib.asynccontextmanager
async def playing() -> AsyncIterator[tuple[Grammars, Trials]]:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=theirs)
    trials = Trials(reader, writer)
    reading = asyncio.create_task(trials.read())
    try:
        yield Grammars(ours), trials
    finally:
        reading.cancel()
        writer.close()
        ours.close()


def body(regex: str) -> dict[str, Any]:
    return {"structured_outputs": {"regex": regex}}


def check(grammars: Grammars, regex: str, tenant: str = "") -> asyncio.Task[None]:
    return asyncio.create_task(grammars.check(body(regex), tenant))


async def test_a_structure_is_tried_once_however_many_ask_and_whoever_leaves() -> None:
    async with playing() as (grammars, trials):
        first = check(grammars, "a")
        number, _ = await trials.next()
        others = [check(grammars, "a") for _ in range(100)]
        await asyncio.sleep(0)
        first.cancel()
        trials.answer(number)
        await asyncio.gather(*others)
        await grammars.check(body("a"), "")
        assert trials.asked.empty()


async def test_a_costly_structure_of_one_tenant_leaves_a_trial_for_others() -> None:
    async with playing() as (grammars, trials):
        attacks = [check(grammars, f"costly{one}", "mallory") for one in range(8)]
        first, _ = await trials.next()
        with pytest.raises(Refusal) as refused:
            await grammars.check(body("costly9"), "mallory")
        assert refused.value.status == 429
        for number in range(5):
            good = check(grammars, f"good{number}", "alice")
            job, regex = await trials.next()
            assert regex == f"good{number}"
            trials.answer(job)
            await good
        assert not any(attack.done() for attack in attacks)
        trials.answer(first, COSTLY)
        for _ in attacks[1:]:
            number, _ = await trials.next()
            trials.answer(number)
        found = await asyncio.gather(*attacks, return_exceptions=True)
        assert [isinstance(one, Refusal) for one in found] == [True] + [False] * 7


async def test_clients_that_are_not_told_apart_share_all_trials() -> None:
    async with playing() as (grammars, trials):
        waiting = [check(grammars, f"r{one}") for one in range(32)]
        jobs = [await trials.next() for _ in range(2)]
        with pytest.raises(Refusal, match="Too many new structures"):
            await grammars.check(body("one more"), "")
        for number, _ in jobs:
            trials.answer(number)
        for _ in range(30):
            number, _ = await trials.next()
            trials.answer(number)
        await asyncio.gather(*waiting)


async def test_without_the_process_structures_are_held_to_their_bounds_alone() -> None:
    async with playing() as (grammars, trials):
        asked = check(grammars, "a")
        await trials.next()
        trials._writer.close()
        await asked
        await turns(lambda: grammars._reader is not None and grammars._reader.done())
        await grammars.check(body("b"), "")
