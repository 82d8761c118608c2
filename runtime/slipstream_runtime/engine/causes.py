"""Causes of vLLM's failures, read from its errors.

The engine core is another process: the API process sees its exception as "see root cause above". So vLLM's logging
configuration also writes errors to a small file, and the cause is read from it.
"""

import json
import re
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from slipstream_runtime import contract
from slipstream_runtime.engine import deaths
from slipstream_runtime.errors import LONGEST_LINE, one_line

_EXCEPTION: Final = re.compile(
    r"^(?:[A-Za-z_]\w*\.)*([A-Z]\w*(?:Error|Exception|Exit)|Exception)(?::(?:\s+(.*))?)?$"
)
_OF_A_MODULE: Final = re.compile(r"^(?:[A-Za-z_]\w*\.)+([A-Z]\w*):\s*(.*)$")
"""Exception of any name, such as triton.runtime.errors.OutOfResources; valid only at the end of a traceback."""
_BELOW: Final = re.compile(r"^$|^\d+ validation errors? for ")
"""Start of a message whose next lines contain the cause."""
_LINES_BELOW: Final = 3
"""Lines of such a message that are read, at most."""
_CONSEQUENCES: Final = (
    "Engine core initialization failed",
    "EngineCore encountered an issue",
    "Worker failed with error",
    "WorkerProc initialization failed",
    "Executor failed.",
)
"""Messages that only report the failure of another process."""
_CANCELLED: Final = "cancelled"
"""vLLM's message of a wait for a worker that is being stopped."""
_PEER_GONE: Final = (
    "Connection closed by peer",
    "Connection reset by peer",
    "remote process exited",
    "recvValue failed",
    "Broken pipe",
)
"""Messages of a worker that lost its connection to another one; they follow from another failure, if one is known."""
_REMEDIES: Final = (
    (
        ("CUDA out of memory", "CUDA error: out of memory"),
        (
            "The accelerator's memory is full: lower spec.model.maxLength or batching.maxSequences, or use "
            "spec.quantization or more accelerators."
        ),
    ),
    (
        ("To serve at least one request",),
        "In the service: lower spec.model.maxLength, or use spec.quantization.kvCache or more accelerators.",
    ),
    (
        ("NCCL error", "Watchdog caught collective operation timeout"),
        "Accelerators could not exchange data: set NCCL_DEBUG=WARN in spec.template.env to see why.",
    ),
)
"""Words of a cause -> remedy in terms of the service's fields."""
DEATH: Final = "Worker proc %s died unexpectedly (exit code: %s)"
"""Message of vLLM's executor when a worker process ends: its name and its exit code."""
_DEATH: Final = re.compile(r"^Worker proc (\S+) died unexpectedly \(exit code: (-?\d+|None)\)")
_MORE_MEMORY: Final = (
    "Raise limits.memory and requests.memory in spec.resources, or lower batching.maxSequences."
)
_NO_SHARED_MEMORY: Final = (
    f"most likely {contract.SHARED_MEMORY_DIRECTORY} is full, which counts as the container's "
    f"memory. {_MORE_MEMORY}"
)
_CRASH: Final = "The engine's log has more"
_KEPT_BYTES: Final = 1024 * 1024
"""Bytes of errors after which the file is rotated."""


def logging_config(errors: Path) -> str:
    """Return a logging configuration for vLLM: warnings to stderr, errors also to the file."""
    handlers = {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": "line",
            "level": "WARNING",
            "stream": "ext://sys.stderr",
        },
        "errors": {
            "class": "logging.handlers.RotatingFileHandler",
            "formatter": "message",
            "level": "ERROR",
            "filename": str(errors),
            "maxBytes": _KEPT_BYTES,
            "backupCount": 1,
            "delay": True,
        },
    }
    formatters = {
        "line": {
            "class": "vllm.logging_utils.NewLineFormatter",
            "format": "%(levelname)s %(asctime)s %(processName)s [%(filename)s:%(lineno)d] %(message)s",
        },
        "message": {"format": "%(message)s"},
    }
    loggers = {"vllm": {"handlers": list(handlers), "level": "WARNING", "propagate": False}}
    return json.dumps(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": formatters,
            "handlers": handlers,
            "loggers": loggers,
        }
    )


def find(
    text: str, *, out_of_memory: bool | None = None, known: Sequence[deaths.Death] = ()
) -> str | None:
    """Return the death of a worker, or the last exception in the text that doesn't follow from another one.

    Errors after a death follow from it, and so do errors of other workers before it that lost their peer. A worker
    that fails by itself logs its exception before it ends. `known` are deaths that the text doesn't have.
    `out_of_memory` says whether the kernel killed a process of this container because memory ran out; None if unknown.
    """
    lines = text.splitlines()
    found = [(index, match) for index, line in enumerate(lines) if (match := _DEATH.match(line))]
    reported = [
        deaths.Death(match[1], None if match[2] == "None" else int(match[2])) for _, match in found
    ]
    death = deaths.first([*reported, *known])
    if death is None:
        return _last_exception(lines)
    if death.code is not None and death.code < 0:
        return killed(death.process, -death.code, out_of_memory=out_of_memory)
    before = lines[: found[0][0]] if found else lines
    if death.code is not None:
        return _last_exception(before) or f"{death.process} ended with exit code {death.code}"
    if out_of_memory:
        return killed(death.process, signal.SIGKILL, out_of_memory=True)
    return _last_exception(before, peers=False) or (
        f"{death.process} ended, and its exit code is not known. {_CRASH}"
    )


def of_another(message: str) -> bool:
    """Whether an error's message says that another worker has ended; its death will be reported at any moment."""
    return message == _CANCELLED or any(words in message for words in _PEER_GONE)


def killed(process: str, number: int, *, out_of_memory: bool | None) -> str:
    """Return why a process ended by this signal, as far as it is known."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    if name == "SIGBUS":
        return f"{process} was killed by SIGBUS: {_NO_SHARED_MEMORY}"
    if name == "SIGTERM":
        return (
            f"{process} was ended by SIGTERM, which something else in the pod or on the node sent"
        )
    if name == "SIGABRT":
        return f"{process} was killed by SIGABRT: a library gave up, such as NCCL after a timeout. {_CRASH}"
    if name != "SIGKILL":
        return f"{process} was killed by {name}: it crashed. {_CRASH}"
    if out_of_memory:
        return f"{process} was killed because memory ran out. {_MORE_MEMORY}"
    if out_of_memory is None:
        return (
            f"{process} was killed by SIGKILL, most likely because memory ran out. {_MORE_MEMORY}"
        )
    return f"{process} was killed by SIGKILL, though memory did not run out: another process on the node did it"


def _last_exception(lines: Sequence[str], *, peers: bool = True) -> str | None:
    """Return the last exception that is not a consequence; with `peers`, else the last one about an ended worker."""
    of_peers = None
    for index in range(len(lines) - 1, -1, -1):
        match = _exception(lines, index)
        if match is None or match[1] == "EngineDeadError":
            continue
        message = (match[2] or "").strip()
        if _BELOW.match(message):
            message = " ".join([message, *_below(lines, index)]).strip()
        if message == _CANCELLED or any(words in message for words in _CONSEQUENCES):
            continue
        found = _with_remedy(f"{match[1]}: {message}" if message else match[1])
        if not of_another(message):
            return found
        of_peers = of_peers or found
    return of_peers if peers else None


def _exception(lines: Sequence[str], index: int) -> re.Match[str] | None:
    if (match := _EXCEPTION.match(lines[index].strip())) is not None:
        return match
    after_a_frame = index > 0 and lines[index - 1].startswith("  ")
    return _OF_A_MODULE.match(lines[index]) if after_a_frame else None


def _below(lines: Sequence[str], index: int) -> list[str]:
    """Return the next lines of a message, up to the next paragraph, traceback or record."""
    found: list[str] = []
    for line in lines[index + 1 : index + 1 + _LINES_BELOW]:
        if not line.startswith(" "):
            break
        found.append(line.strip())
    return found


def _with_remedy(cause: str) -> str:
    for words, remedy in _REMEDIES:
        if any(each in cause for each in words):
            said = one_line(cause, limit=LONGEST_LINE - len(remedy) - 2)
            return f"{said}{'' if said.endswith(('.', '…')) else '.'} {remedy}"
    return one_line(cause)


def read(
    errors: Path, *, out_of_memory: bool | None = None, known: Sequence[deaths.Death] = ()
) -> str | None:
    """Return the cause by the file, which may not be there, and by the known deaths; None if there is none."""
    try:
        text = errors.read_text(errors="replace")
    except OSError:
        text = ""
    return find(text, out_of_memory=out_of_memory, known=known)
