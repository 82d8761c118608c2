"""Log of this package's events, one JSON object a line; vLLM logs in its own form."""

import datetime
import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from slipstream_runtime import contract

NAME: Final = "slipstream_runtime"
_LOG: Final = logging.getLogger(NAME)


class JsonFormatter(logging.Formatter):
    """Formatter that writes a record as one JSON object, with its `fields` as keys."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        at = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        entry: dict[str, object] = {
            "time": at.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def configure() -> None:
    """Send this package's records to stderr, and show only warnings of verbose libraries."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger(NAME)
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for library in ("uvicorn", "httpx", "huggingface_hub"):
        logging.getLogger(library).setLevel(logging.WARNING)


def event(name: str, **fields: object) -> None:
    """Log an event."""
    _LOG.info(name, extra={"fields": fields})


def failure(name: str, *, error: BaseException | None = None, **fields: object) -> None:
    """Log a failure, with the traceback if there is one."""
    info = (type(error), error, error.__traceback__) if error is not None else None
    _LOG.error(name, exc_info=info, extra={"fields": fields})


def leave_reason(path: Path, reason: str) -> None:
    """Write the reason to the termination log, which the kubelet reads; a file that can't be written is only logged.

    It is readable to all who may read the service, so it holds no Secret.
    """
    try:
        path.write_text(without_secrets(reason, os.environ) + "\n")
    except OSError as error:
        event("termination log not written", path=str(path), error=str(error))


def without_secrets(text: str, environment: Mapping[str, str]) -> str:
    """Return the text with the values of secret variables replaced by the variables' names."""
    names = environment.get(contract.SECRET_VARIABLES_ENV, "").split(",")
    values = {
        environment[name].strip(): name for name in names if environment.get(name, "").strip()
    }
    for value in sorted(values, key=len, reverse=True):  # a value can be a part of another
        text = text.replace(value, f"<{values[value]}>")
    return text
