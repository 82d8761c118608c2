"""Attacks of a tenant on what the keys of others are to have: their priority, their budget and their documents."""

import contextlib
import itertools
import json
from pathlib import Path
from typing import Any, Final

from benchmarks.borders import wire
from benchmarks.borders.wire import Deadline, Target

CHAT: Final = "/v1/chat/completions"
BUDGET: Final = 480
"""Tokens a minute that the key of the attacker may spend on the service `paid`."""
_OUTPUT: Final = 100
_SHORT: Final = 20
"""Output tokens of a request that is small beside the budget."""
_CHOICES: Final = 4
_SLACK: Final = 1.1
"""Factor by which the budget may be exceeded: tokens are counted when an answer ends."""
_DOCUMENTS: Final = 64
"""Documents of 16 KB: as many as a Secret can have."""


async def priority(target: Target, deadline: Deadline) -> None:
    """Flood the engine with requests that name a priority before all others."""
    data = target.ask(
        max_tokens=1000, temperature=1.0, ignore_eos=True, stream=True, priority=-(2**62)
    )
    await wire.sending(target, data, deadline, at_once=1000)


async def floats(target: Target, deadline: Deadline) -> int:
    """Ask for several choices by numbers with a point, and count the tokens beyond the budget."""
    spent = 0
    bodies = [
        target.ask(n=number, max_tokens=tokens, temperature=1.0, ignore_eos=True)
        for number, tokens in (
            (float(_CHOICES), _OUTPUT), (str(_CHOICES), _OUTPUT), (_CHOICES, float(_OUTPUT)), (_CHOICES, str(_OUTPUT)),
            (_CHOICES, _OUTPUT),
        )
    ]  # fmt: skip

    async def once() -> None:
        nonlocal spent
        for data in bodies:
            answer = await wire.exchange(target.port, data, seconds=deadline.left)
            spent += _tokens(answer)

    await wire.repeatedly(once, deadline, at_once=8)
    return _exceeds(spent, deadline)


async def over_routers(target: Target, deadline: Deadline) -> int:
    """Spend one budget at two routers in turn, and count the tokens beyond it."""
    spent = 0
    data = target.ask(max_tokens=_SHORT, temperature=1.0, ignore_eos=True)
    ports = itertools.cycle((target.port, *target.others))

    async def once() -> None:
        nonlocal spent
        # NB: in one line with `await`, the sum from before it would be added to.
        answer = await wire.exchange(next(ports), data, seconds=deadline.left)
        spent += _tokens(answer)

    await wire.repeatedly(once, deadline, at_once=8)
    return _exceeds(spent, deadline)


def _exceeds(spent: int, deadline: Deadline) -> int:
    return int(spent > _SLACK * BUDGET * (1 + deadline.seconds / 60))


def _tokens(answer: bytes) -> int:
    _, _, body = answer.partition(b"\r\n\r\n")
    with contextlib.suppress(ValueError, KeyError, TypeError):
        at = body.index(b"{")
        found: Any = json.loads(body[at : body.rindex(b"}") + 1])
        return int(found["usage"]["total_tokens"])
    return 0


async def documents(target: Target, deadline: Deadline) -> None:
    """Write documents of keys that grow, nest or are too many, and ask for the service of these keys."""
    assert target.keys is not None
    folder = Path(target.keys)
    sevenfold = "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(7)
    )
    contents = (
        f"sha256: x\na: &a [1,1,1,1,1,1,1,1,1]\n{sevenfold}",
        "sha256: " + "[" * 15_000,
        "sha256: x\ny: " + "{z: " * 4000,
        "sha256: x\n" + "a: 1\n" * 3200,
    )  # fmt: skip
    written: list[Path] = []
    data = target.ask()

    async def once() -> None:
        for number in range(_DOCUMENTS):
            file = folder / f"bad-{number}"
            file.write_text(contents[number % len(contents)])
            written.append(file)
        await wire.exchange(target.port, data, seconds=min(5.0, deadline.left))

    try:
        await wire.repeatedly(once, deadline, at_once=1)
    finally:
        for file in written:
            file.unlink(missing_ok=True)
