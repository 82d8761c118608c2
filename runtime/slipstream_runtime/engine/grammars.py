"""Check of grammars, schemas and regular expressions before vLLM compiles them, by `trials`."""

import asyncio
import collections
import contextlib
import hashlib
import json
import socket
from collections.abc import Mapping, Sequence
from typing import Any, Final

from slipstream_runtime import logs
from slipstream_runtime.engine import bounds
from slipstream_runtime.web.openai import Reason
from slipstream_runtime.web.refusal import Refusal, malformed

AT_ONCE: Final = 2
"""Trials that run at once."""
SECONDS: Final = 5
"""Seconds of one trial."""
MEMORY: Final = 512 * 1024**2
"""Bytes that one trial may take beyond what the process has."""
COSTLY: Final = f"the structure takes the compiler more than {SECONDS} s or {MEMORY // 1024**2} MiB. Simplify it"
_QUEUE: Final = 32
"""Trials that may wait or run; a quarter of it for one tenant."""
_KNOWN: Final = 4096
"""Results that are kept."""
_COSTLY_SECONDS: Final = 60
"""Seconds for which a structure that was too costly is refused without another trial."""

Structure = Mapping[str, Any]


class Grammars:
    """Client of the process that tries structures; its methods belong to one event loop."""

    def __init__(self, jobs: socket.socket) -> None:
        self._jobs = jobs
        self._known: collections.OrderedDict[bytes, str] = collections.OrderedDict()
        self._asked: dict[int, asyncio.Future[str]] = {}
        self._number = 0
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._trials: dict[bytes, asyncio.Task[str]] = {}
        self._waiting: collections.Counter[str] = collections.Counter()
        """Tenant -> its trials that wait or run."""
        self._turns: dict[str, asyncio.Lock] = {}
        self._writes = asyncio.Lock()
        self._reader: asyncio.Task[None] | None = None

    async def check(self, body: Mapping[str, Any], tenant: str) -> None:
        """Raise Refusal if vLLM can't generate a structure of this request, or can't compile it in time.

        Tenants share the trials in turn; without a name, all clients are one tenant without a share.
        """
        found = [(name, structure) for name, structure in bounds.structures(body) if structure]
        if not found:
            return
        structures = [structure for _, structure in found]
        key = hashlib.sha256(json.dumps(structures).encode()).digest()
        reason = self._known.get(key)
        if reason is None:
            # NB: a client that leaves does not end a trial, so the trial keeps its place.
            reason = await asyncio.shield(self._trial(key, structures, tenant))
        else:
            self._known.move_to_end(key)
        if reason:
            raise malformed(f"{found[0][0]}: {reason}.", param=found[0][0])

    def _trial(
        self, key: bytes, structures: Sequence[Structure], tenant: str
    ) -> asyncio.Future[str]:
        """Return the trial of these structures, which may run already; Refusal if too many wait."""
        if (running := self._trials.get(key)) is not None:
            return running
        if self._waiting.total() >= _QUEUE or (tenant and self._waiting[tenant] >= _QUEUE // 4):
            raise Refusal(
                429,
                "Too many new structures wait for their check. Retry later.",
                reason=Reason.QUEUE_FULL,
            )
        self._waiting[tenant] += 1
        trial = self._trials[key] = asyncio.create_task(self._try(key, structures, tenant))
        trial.add_done_callback(lambda _: None if trial.cancelled() else trial.exception())
        return trial

    async def _try(self, key: bytes, structures: Sequence[Structure], tenant: str) -> str:
        """Return why these structures can't be used; nothing if they can. A tenant has one trial at once."""
        turn = (
            self._turns.setdefault(tenant, asyncio.Lock()) if tenant else contextlib.nullcontext()
        )
        try:
            async with turn, self._slots:
                reason = await self._ask(structures)
        finally:
            del self._trials[key]
            self._waiting[tenant] -= 1
            if not self._waiting[tenant]:
                del self._waiting[tenant]
                self._turns.pop(tenant, None)
        self._known[key] = reason
        if len(self._known) > _KNOWN:
            self._known.popitem(last=False)
        if reason == COSTLY:
            # NB: it may have been the machine that was slow.
            asyncio.get_running_loop().call_later(_COSTLY_SECONDS, self._known.pop, key, None)
        return reason

    async def _ask(self, structures: Sequence[Structure]) -> str:
        loop = asyncio.get_running_loop()
        if self._reader is None:
            self._jobs.setblocking(False)
            self._reader = loop.create_task(self._read())
        self._number += 1
        number = self._number
        answer: asyncio.Future[str] = loop.create_future()
        self._asked[number] = answer
        frame = json.dumps([number, structures]).encode()
        try:
            async with self._writes:
                await loop.sock_sendall(self._jobs, len(frame).to_bytes(4, "big") + frame)
            return await answer
        except OSError:
            return ""
        finally:
            del self._asked[number]

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        held = b""
        while part := await loop.sock_recv(self._jobs, 65536):
            *lines, held = (held + part).split(b"\n")
            for line in lines:
                number, reason = json.loads(line)
                if (answer := self._asked.get(number)) is not None and not answer.done():
                    answer.set_result(reason)
        # NB: without it, requests are held to the bounds of their size alone.
        logs.failure("the process that tries structures has ended")
        for answer in self._asked.values():
            answer.set_result("")
