"""Trial of grammars, schemas and regular expressions in processes that can be killed.

vLLM compiles in threads of its engine core, which nothing can stop. Here one process holds the model's tokenizer, and
workers that it has forked ahead. A worker is killed after a few seconds, and has a bound of memory. What a worker
compiled is safe for the engine core.
"""

import collections
import ctypes
import json
import os
import re
import resource
import select
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from vllm.sampling_params import SamplingParams, StructuredOutputsParams
from vllm.tokenizers import cached_tokenizer_from_config
from vllm.utils.system_utils import set_process_title
from vllm.v1.structured_output.backend_xgrammar import XgrammarBackend
from vllm.v1.structured_output.request import get_structured_output_key

from slipstream_runtime.engine.grammars import AT_ONCE, COSTLY, MEMORY, SECONDS, Grammars, Structure
from slipstream_runtime.errors import one_line

_KEPT: Final = 64 * 1024**2
"""Bytes by which a worker may have grown and try another structure."""
_PLACE: Final = re.compile(r"^\[[^]]*\] \S+:\d+: ")
"""Time and source line that xgrammar puts before its message."""
_SOON: Final = 1.0
"""Seconds after which a worker is replaced, because a regular expression may still be compiled in a thread of it."""
_SAMPLES: Final[Sequence[Structure]] = (
    {"json": {"type": "object"}},
    {"regex": "a"},
    {"choice": ["a"]},
    {"grammar": 'root ::= "a"'},
)
_DIE_WITH_PARENT: Final = 1
"""PR_SET_PDEATHSIG of prctl(2)."""
_ARENAS: Final = -8
"""M_ARENA_MAX of mallopt(3): each arena reserves 64 MiB of a worker's bound."""


def start(config: Any) -> Grammars | None:
    """Fork the process; None if the model takes no structures. Call it before vLLM starts threads."""
    if config.model_config.runner_type != "generate" or config.model_config.skip_tokenizer_init:
        return None
    # NB: vLLM's front takes the same one later.
    cached_tokenizer_from_config(model_config=config.model_config)
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        _serve(theirs, config)
    theirs.close()
    return Grammars(ours)


def _serve(jobs: socket.socket, config: Any) -> NoReturn:
    """Answer jobs until the parent ends."""
    try:
        _leave_parent(jobs)
        set_process_title("Structures")
        _Workers(jobs, config).run()
    finally:
        os._exit(1)


class _Worker:
    """One process that tries one structure at a time."""

    def __init__(self, process: int, jobs: socket.socket) -> None:
        self.process = process
        self.jobs = jobs
        self.number: int | None = None
        """Number of the job under trial."""
        self.deadline = 0.0

    def end(self) -> None:
        """Kill the process."""
        self.jobs.close()
        os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)


class _Workers:
    """Workers that are forked ahead and replaced after a trial that cost time or memory."""

    def __init__(self, jobs: socket.socket, config: Any) -> None:
        self._jobs = jobs
        self._trial = _Trial(config)
        self._workers: list[_Worker] = []
        self._waiting: collections.deque[bytes] = collections.deque()

    def run(self) -> NoReturn:
        """Hand each job to a worker, for ever."""
        while True:
            self._refill()
            self._hand_out()
            busy = [worker for worker in self._workers if worker.number is not None]
            now = time.monotonic()
            patience = min((worker.deadline - now for worker in busy), default=None)
            ready, _, _ = select.select(
                [self._jobs, *(worker.jobs for worker in self._workers)],
                [],
                [],
                None if patience is None else max(patience, 0),
            )
            if self._jobs in ready:
                self._waiting.append(receive(self._jobs))
            for worker in list(self._workers):
                if worker.jobs in ready:
                    self._hear(worker)
                elif worker.number is not None and worker.deadline <= time.monotonic():
                    self._answer(worker, COSTLY, usable=False)

    def _refill(self) -> None:
        while len(self._workers) < AT_ONCE:
            ours, theirs = socket.socketpair()
            process = os.fork()
            if process == 0:
                _work(theirs, self._trial)
            theirs.close()
            self._workers.append(_Worker(process, ours))

    def _hand_out(self) -> None:
        for worker in self._workers:
            if self._waiting and worker.number is None:
                frame = self._waiting.popleft()
                worker.number = json.loads(frame)[0]
                worker.deadline = time.monotonic() + SECONDS
                try:
                    send(worker.jobs, frame)
                except OSError:
                    continue  # its end is heard next

    def _hear(self, worker: _Worker) -> None:
        try:
            reason, usable = json.loads(receive(worker.jobs))
        except (EOFError, OSError):
            reason, usable = COSTLY, False
        self._answer(worker, reason, usable=usable)

    def _answer(self, worker: _Worker, reason: str, *, usable: bool) -> None:
        if worker.number is not None:
            self._jobs.sendall(json.dumps([worker.number, reason]).encode() + b"\n")
            worker.number = None
        if not usable:
            worker.end()
            self._workers.remove(worker)


def send(connection: socket.socket, frame: bytes) -> None:
    """Send a frame behind its length."""
    connection.sendall(len(frame).to_bytes(4, "big") + frame)


def receive(connection: socket.socket) -> bytes:
    """Return the next frame; EOFError if the other side has ended."""
    return _exactly(connection, int.from_bytes(_exactly(connection, 4), "big"))


def _exactly(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


def _leave_parent(jobs: socket.socket) -> None:
    """Give up what the process shares with its parent, and end with it."""
    libc = ctypes.CDLL(None)
    libc.prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    libc.mallopt(_ARENAS, 2)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # NB: as long as the process holds the port of the API, a client waits there in vain.
    os.closerange(3, jobs.fileno())
    os.closerange(jobs.fileno() + 1, os.sysconf("SC_OPEN_MAX"))


def _work(jobs: socket.socket, trial: "_Trial") -> NoReturn:
    """Try structures in this process, within its time and memory."""
    try:
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        size, resident = _pages()
        most = size * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        while True:
            _, structures = json.loads(receive(jobs))
            begun = time.monotonic()
            reason = trial.reason(structures)
            grown = (_pages()[1] - resident) * resource.getpagesize()
            usable = reason != COSTLY and grown < _KEPT and time.monotonic() - begun < _SOON
            send(jobs, json.dumps([reason, usable]).encode())
    finally:
        os._exit(1)


def _pages() -> tuple[int, int]:
    """Return the size of this process and what of it is in memory."""
    size, resident, *_ = Path("/proc/self/statm").read_text().split()
    return int(size), int(resident)


class _Trial:
    """vLLM's own checks and compiler, with the model's tokenizer."""

    def __init__(self, config: Any) -> None:
        self._config = config
        self._tokenizer = cached_tokenizer_from_config(model_config=config.model_config)
        self._backend = XgrammarBackend(
            config, tokenizer=self._tokenizer, vocab_size=config.model_config.get_vocab_size()
        )
        # NB: each imports modules, which all workers then have.
        for structure in _SAMPLES:
            self._validate(structure)

    def reason(self, structures: Sequence[Structure]) -> str:
        """Return why one of the structures can't be used; nothing if all can."""
        try:
            for structure in structures:
                self._compile(structure)
        except MemoryError:
            return COSTLY
        except RecursionError:
            return "the structure refers to itself without end"
        except Exception as error:
            return one_line(_PLACE.sub("", str(error)), limit=300).rstrip(".")
        finally:
            self._backend.compiler.clear_cache()
        return ""

    def _validate(self, structure: Structure) -> SamplingParams:
        """Return vLLM's form of the structure, which vLLM itself finds valid."""
        tag = structure.get("structural_tag")
        fields = dict(structure)
        if tag is not None and not isinstance(tag, str):
            fields["structural_tag"] = json.dumps(tag)
        params = SamplingParams(structured_outputs=StructuredOutputsParams(**fields))
        params._validate_structured_outputs(
            self._config.model_config, self._config.structured_outputs_config, self._tokenizer
        )
        return params

    def _compile(self, structure: Structure) -> None:
        params = self._validate(structure)
        if self._config.structured_outputs_config.backend in ("auto", "xgrammar"):
            # NB: an engine keeps the backend of its first request, which is that before it is ready.
            kind, text = get_structured_output_key(params.structured_outputs)
            grammar = self._backend.compile_grammar(kind, text)
            allowed = self._backend.allocate_token_bitmask(1)
            grammar.fill_bitmask(allowed, 0)
            if not grammar.is_terminated() and not allowed.any():
                raise ValueError(
                    "no answer can have this structure, which may refer to itself without end"
                )
