"""Trial of grammars, schemas and regular expressions before vLLM compiles them, in processes that can be killed.

vLLM compiles in threads of its engine core, which nothing can stop. Here one process holds the model's tokenizer and
forks a child for each trial. A child is killed after a few seconds, and has a bound of memory. What a child compiled
is safe for the engine core.
"""

import asyncio
import collections
import ctypes
import hashlib
import json
import os
import re
import resource
import select
import signal
import socket
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

from vllm.sampling_params import SamplingParams, StructuredOutputsParams
from vllm.tokenizers import cached_tokenizer_from_config
from vllm.utils.system_utils import set_process_title
from vllm.v1.structured_output.backend_xgrammar import XgrammarBackend
from vllm.v1.structured_output.request import get_structured_output_key

from slipstream_runtime import logs
from slipstream_runtime.engine import bounds
from slipstream_runtime.errors import one_line
from slipstream_runtime.web.openai import Reason
from slipstream_runtime.web.refusal import Refusal, malformed

_SECONDS: Final = 5
"""Seconds of one trial."""
_MEMORY: Final = 512 * 1024**2
"""Bytes that one trial may take beyond what the process has."""
_AT_ONCE: Final = 2
"""Trials that run at once."""
_QUEUE: Final = 32
"""Requests that may wait for a trial."""
_KNOWN: Final = 4096
"""Results that are kept."""
_COSTLY_SECONDS: Final = 60
"""Seconds for which a structure that was too costly is refused without another trial."""
_PLACE: Final = re.compile(r"^\[[^]]*\] \S+:\d+: ")
"""Time and source line that xgrammar puts before its message."""
_DIE_WITH_PARENT: Final = 1
"""PR_SET_PDEATHSIG of prctl(2)."""
_COSTLY: Final = f"the structure takes the compiler more than {_SECONDS} s or {_MEMORY // 1024**2} MiB. Simplify it"

Structure = Mapping[str, Any]


class Grammars:
    """Client of the process that tries structures; its methods belong to one event loop."""

    def __init__(self, trials: socket.socket) -> None:
        self._trials = trials
        self._known: collections.OrderedDict[bytes, str] = collections.OrderedDict()
        self._asked: dict[int, asyncio.Future[str]] = {}
        self._number = 0
        self._slots = asyncio.Semaphore(_AT_ONCE)
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
            if reason == _COSTLY:
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
            self._trials.setblocking(False)
            self._reader = loop.create_task(self._read())
        self._number += 1
        number = self._number
        answer: asyncio.Future[str] = loop.create_future()
        self._asked[number] = answer
        frame = json.dumps([number, structures]).encode()
        try:
            async with self._writes:
                await loop.sock_sendall(self._trials, len(frame).to_bytes(4, "big") + frame)
            return await answer
        except OSError:
            return ""
        finally:
            del self._asked[number]

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        held = b""
        while part := await loop.sock_recv(self._trials, 65536):
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
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        _serve(theirs, config)
    theirs.close()
    return Grammars(ours)


def _serve(jobs: socket.socket, config: Any) -> NoReturn:
    """Fork a child for each job until the parent ends."""
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    set_process_title("Structures")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken)
    trial: _Trial | None = None
    running: dict[int, int] = {}
    try:
        while True:
            sources: list[socket.socket | int] = [jobs, wake]
            ready, _, _ = select.select(sources, [], [])
            if wake in ready:
                os.read(wake, 4096)
                _reap(running, jobs)
            if jobs in ready:
                number, structures = json.loads(
                    _exactly(jobs, int.from_bytes(_exactly(jobs, 4), "big"))
                )
                trial = trial or _Trial(config)
                child = os.fork()
                if child == 0:
                    _run(trial, number, structures, jobs)
                running[child] = number
    except BaseException:
        os._exit(1)


def _reap(running: dict[int, int], jobs: socket.socket) -> None:
    """Answer for the children that ended without an answer."""
    while running:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child == 0:
            return
        number = running.pop(child, None)
        if number is not None and status != 0:
            _answer(jobs, number, _COSTLY)


def _run(
    trial: "_Trial", number: int, structures: Sequence[Structure], jobs: socket.socket
) -> NoReturn:
    """Try the structures in this child, within its time and memory."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_SECONDS)
        size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()  # noqa: SIM115, PTH123
        resource.setrlimit(resource.RLIMIT_AS, (size + _MEMORY, size + _MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        reason = trial.reason(structures)
        _answer(jobs, number, reason)
        os._exit(0)
    except BaseException:
        os._exit(1)


def _answer(jobs: socket.socket, number: int, reason: str) -> None:
    jobs.sendall(json.dumps([number, reason]).encode() + b"\n")


def _exactly(jobs: socket.socket, size: int) -> bytes:
    parts = b""
    while len(parts) < size:
        part = jobs.recv(size - len(parts))
        if not part:
            raise EOFError
        parts += part
    return parts


class _Trial:
    """vLLM's own checks and compiler, with the model's tokenizer."""

    def __init__(self, config: Any) -> None:
        self._config = config
        self._tokenizer = cached_tokenizer_from_config(model_config=config.model_config)
        self._backend = XgrammarBackend(
            config, tokenizer=self._tokenizer, vocab_size=config.model_config.get_vocab_size()
        )

    def reason(self, structures: Sequence[Structure]) -> str:
        """Return why one of the structures can't be used; nothing if all can."""
        try:
            for structure in structures:
                self._compile(structure)
        except MemoryError:
            return _COSTLY
        except RecursionError:
            return "the structure refers to itself without end"
        except Exception as error:
            return one_line(_PLACE.sub("", str(error)), limit=300).rstrip(".")
        return ""

    def _compile(self, structure: Structure) -> None:
        tag = structure.get("structural_tag")
        fields = dict(structure)
        if tag is not None and not isinstance(tag, str):
            fields["structural_tag"] = json.dumps(tag)
        params = SamplingParams(structured_outputs=StructuredOutputsParams(**fields))
        config = self._config
        params._validate_structured_outputs(
            config.model_config, config.structured_outputs_config, self._tokenizer
        )
        if config.structured_outputs_config.backend in ("auto", "xgrammar"):
            # NB: an engine keeps the backend of its first request, which is that before it is ready.
            kind, text = get_structured_output_key(params.structured_outputs)
            grammar = self._backend.compile_grammar(kind, text)
            allowed = self._backend.allocate_token_bitmask(1)
            grammar.fill_bitmask(allowed, 0)
            if not grammar.is_terminated() and not allowed.any():
                raise ValueError(
                    "no answer can have this structure, which may refer to itself without end"
                )
