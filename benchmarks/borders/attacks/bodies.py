"""Bodies that cost more memory or time than they have bytes."""

import asyncio
import contextlib
from typing import Final

from benchmarks.borders import wire
from benchmarks.borders.wire import Deadline, Target

SIZE: Final = 16 * 2**20
"""Bytes of a body, the most that the router and engines document."""
CHAT: Final = "/v1/chat/completions"
_UNFINISHED: Final = 40
"""Connections that send all but the end of a body."""


def filled(model: str, piece: str, size: int = SIZE) -> bytes:
    """Return a chat request of this size whose field `x` is a list of the pieces."""
    head = f'{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}],"x":['.encode()
    text = piece.encode()
    count = (size - len(head) - 8) // len(text)
    return head + (text * count).removesuffix(b",") + b"]}"


async def brackets(target: Target, deadline: Deadline) -> None:
    """Nested lists, for a model that no service has."""
    data = target.request(CHAT, filled("zz", "[[[[]]]],"))
    await wire.sending(target, data, deadline, at_once=4)


async def empty_lists(target: Target, deadline: Deadline) -> None:
    """Lists, for the model of the service, so that router and engine parse them."""
    data = target.request(CHAT, filled(target.model, "[],"))
    await wire.sending(target, data, deadline, at_once=2)


async def numbers(target: Target, deadline: Deadline) -> None:
    """Numbers, for the model of the service."""
    await wire.sending(target, target.request(CHAT, filled(target.model, "0,")), deadline)


async def unfinished(target: Target, deadline: Deadline) -> None:
    """Send bodies without their last bytes, and stay."""
    body = filled("zz", '"' + "x" * 1000 + '",')
    data = target.head(CHAT, len(body)) + body[:-64]

    async def stay() -> None:
        while not deadline.over:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(deadline.left), wire.connection(target.port) as (r, w):
                    await wire.write(w, data)
                    await r.read()

    async with asyncio.TaskGroup() as group:
        for _ in range(_UNFINISHED):
            group.create_task(stay())
