"""Wait for an event, with a time limit."""

import asyncio


async def happens(event: asyncio.Event, *, within: float) -> bool:
    """Whether the event is set within that many seconds."""
    try:
        async with asyncio.timeout(within):
            await event.wait()
    except TimeoutError:
        return False
    return True
