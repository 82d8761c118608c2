"""Attacks by an engine: the image of a tenant answers the router as no engine does."""

from typing import Final

from benchmarks.borders import wire
from benchmarks.borders.wire import Deadline, Target

EVENT: Final = "an event without an end"
BODY: Final = "a body without an end"
HEAD: Final = "a head without an end"
SCRIPT: Final = "a page with a script"
CHUNKS: Final = "an event in a million parts"


def _asking(target: Target, what: str, *, stream: bool) -> bytes:
    return target.ask(
        messages=[{"role": "user", "content": what}],
        stream=stream,
    )


async def events(target: Target, deadline: Deadline) -> None:
    """Let a hostile engine send an event without an end."""
    await wire.sending(target, _asking(target, EVENT, stream=True), deadline, at_once=4)


async def chunks(target: Target, deadline: Deadline) -> None:
    """Let a hostile engine send an event in a million parts."""
    await wire.sending(target, _asking(target, CHUNKS, stream=True), deadline, at_once=4)


async def bodies(target: Target, deadline: Deadline) -> None:
    """Let a hostile engine send an answer without an end, of which nothing is read."""
    await wire.sending(target, _asking(target, BODY, stream=False), deadline, at_once=4)


async def heads(target: Target, deadline: Deadline) -> None:
    """Let a hostile engine send headers without an end."""
    await wire.sending(target, _asking(target, HEAD, stream=False), deadline, at_once=4)


async def scripts(target: Target, deadline: Deadline) -> int:
    """Let a hostile engine answer with a page that a browser would run."""
    passed = 0

    async def once() -> None:
        nonlocal passed
        data = _asking(target, SCRIPT, stream=False)
        answer = await wire.exchange(target.port, data, seconds=deadline.left)
        head = answer.partition(b"\r\n\r\n")[0].lower()
        passed += b"text/html" in head

    await wire.repeatedly(once, deadline, at_once=2)
    return passed
