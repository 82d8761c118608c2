"""One JSON object per line for the engine's own events; vLLM's lines are vLLM's own."""

import datetime
import json
import logging
import sys
from pathlib import Path
from typing import Final

NAME: Final = "slipstream_runtime"
_LOG: Final = logging.getLogger("slipstream_runtime.host")


class JsonFormatter(logging.Formatter):
    """A record as one JSON object; `fields` of the record become keys."""

    def format(self, record: logging.LogRecord) -> str:
        """Format one record."""
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
    """Send this package's records to stderr and keep chatty libraries at warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger(NAME)
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for library in ("uvicorn", "httpx", "huggingface_hub"):
        logging.getLogger(library).setLevel(logging.WARNING)


def event(name: str, **fields: object) -> None:
    """Log something that happened."""
    _LOG.info(name, extra={"fields": fields})


def failure(name: str, *, error: BaseException | None = None, **fields: object) -> None:
    """Log something that went wrong, with the traceback if there is one."""
    info = (type(error), error, error.__traceback__) if error is not None else None
    _LOG.error(name, exc_info=info, extra={"fields": fields})


def leave_reason(path: Path, reason: str) -> None:
    """Write the reason where the kubelet picks it up; a pod without such a file still has its log."""
    try:
        path.write_text(reason + "\n")
    except OSError as error:
        event("no termination log", path=str(path), error=str(error))
