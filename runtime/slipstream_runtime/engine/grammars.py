"""Check of grammars, schemas and regular expressions before vLLM compiles them, by `trials`."""

import asyncio
import collections
import hashlib
import json
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any, Final

from vllm.tokenizers import cached_tokenizer_from_config

from slipstream_runtime import logs
from slipstream_runtime.engine import bounds, trials
from slipstream_runtime.engine.trials import COSTLY, Structure
from slipstream_runtime.web.openai import Reason
from slipstream_runtime.web.refusal import Refusal, malformed

_QUEUE: Final = 32
"""Requests that may wait for a trial."""
_KNOWN: Final = 4096
"""Results that are kept."""
_COSTLY_SECONDS: Final = 60
"""Seconds for which a structure that was too costly is refused without another trial."""


class Grammars:
    """Client of the process that tries structures; its methods belong to one event loop."""

    def __init__(self, jobs: socket.socket) -> None:
        self._jobs = jobs
        self._known: collections.OrderedDict[bytes, str] = collections.OrderedDict()
        self._asked: dict[int, asyncio.Future[str]] = {}
        self._number = 0
        self._slots = asyncio.Semaphore(trials.AT_ONCE)
        self._waiting = 0
        self._writes = asyncio.Lock()
        self._reader: asyncio.Task[None] | None = None

    async def check(self, body: Mapping[str, Any]) -> None:
        """Raise Refusal if vLLM can't generate a structure of this request, or can't compile it in time."""
        found = [(name, structure) for name, structure in bounds.structures(body) if structure]
        if not found:
            return
        structures = [structure for _, structure in found]
        key = hashlib.sha256(json.dumps(structures).encode()).digest()
        reason = self._known.get(key)
        if reason is None:
            reason = await self._tried(structures)
            self._known[key] = reason
            if len(self._known) > _KNOWN:
                self._known.popitem(last=False)
            if reason == COSTLY:
                # NB: it may have been the machine that was slow.
                asyncio.get_running_loop().call_later(_COSTLY_SECONDS, self._known.pop, key, None)
        else:
            self._known.move_to_end(key)
        if reason:
            raise malformed(f"{found[0][0]}: {reason}.", param=found[0][0])

    async def _tried(self, structures: Sequence[Structure]) -> str:
        """Return why these structures can't be used; nothing if they can."""
        if self._waiting >= _QUEUE:
            raise Refusal(
                429,
                "Too many new structures wait for their check. Retry later.",
                reason=Reason.QUEUE_FULL,
            )
        self._waiting += 1
        # NB: a client that leaves does not end a trial, so the trial keeps its place.
        trial = asyncio.create_task(self._trial(structures))
        trial.add_done_callback(lambda _: None if trial.cancelled() else trial.exception())
        return await asyncio.shield(trial)

    async def _trial(self, structures: Sequence[Structure]) -> str:
        try:
            async with self._slots:
                return await self._ask(structures)
        finally:
            self._waiting -= 1

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


def start(config: Any) -> Grammars | None:
    """Fork the process; None if the model takes no structures. Call it before vLLM starts threads."""
    if config.model_config.runner_type != "generate" or config.model_config.skip_tokenizer_init:
        return None
    # NB: vLLM's front takes the same one later.
    cached_tokenizer_from_config(model_config=config.model_config)
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        trials.serve(theirs, config)
    theirs.close()
    return Grammars(ours)
