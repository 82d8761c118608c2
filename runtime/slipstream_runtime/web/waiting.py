"""Waiting for an event, with an end."""

import asyncio


async def happens(event: asyncio.Event, *, within: float) -> bool:
    """Whether the event is set before `within` seconds are over."""
    try:
        async with asyncio.timeout(within):
            await event.wait()
    except TimeoutError:
        return False
    return True
