"""Finds out why vLLM failed.

The engine core is another process: its exception reaches the API process as "see root cause above". So vLLM's
errors also go to a small file, by vLLM's own logging configuration, and the cause is read from there.
"""

import json
import re
from pathlib import Path
from typing import Final

from slipstream_runtime.host.errors import one_line

_EXCEPTION: Final = re.compile(
    r"^(?:[A-Za-z_]\w*\.)*([A-Z]\w*(?:Error|Exception|Exit))(?:: (.+))?$"
)
_CONSEQUENCES: Final = (
    "Engine core initialization failed",
    "EngineCore encountered an issue",
    "Worker failed with error",
)
"""Messages that only pass on that something else failed."""
_KEPT_BYTES: Final = 1024 * 1024


def logging_config(errors: Path) -> str:
    """A logging configuration for vLLM: warnings to stderr, errors also to the file."""
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


def find(text: str) -> str | None:
    """The last exception in the text that is not the mere consequence of another."""
    for line in reversed(text.splitlines()):
        match = _EXCEPTION.match(line.strip())
        if match is None or match[1] == "EngineDeadError":
            continue
        message = match[2] or ""
        if not any(consequence in message for consequence in _CONSEQUENCES):
            return one_line(f"{match[1]}: {message}" if message else match[1])
    return None


def read(errors: Path) -> str | None:
    """The cause in the file, if there is one."""
    try:
        return find(errors.read_text(errors="replace"))
    except OSError:
        return None
