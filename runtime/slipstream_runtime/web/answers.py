"""Answers of other servers, which are read up to a limit."""

import aiohttp


class TooLargeError(ValueError):
    """Raised for an answer beyond its limit."""


async def read(reply: aiohttp.ClientResponse, *, most: int) -> bytes:
    """Return the whole body; TooLargeError if it has more than `most` bytes."""
    parts, size = [], 0
    async for part in reply.content.iter_any():
        size += len(part)
        if size > most:
            raise TooLargeError("the answer is too large")
        parts.append(part)
    return b"".join(parts)
