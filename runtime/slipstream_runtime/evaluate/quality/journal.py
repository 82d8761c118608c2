"""Journal of a model's answers, so that a killed run goes on with the first missing answer."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Self

from slipstream_runtime.errors import EngineError
from slipstream_runtime.evaluate.quality.observations import Observation


class Journal:
    """Answers of one model in a file of JSON lines, by the key of their request. Only its owner may read the file."""

    def __init__(self, folder: Path, *, identity: Mapping[str, Any]) -> None:
        text = json.dumps(identity, sort_keys=True)
        self._path = folder / f"answers-{hashlib.sha256(text.encode()).hexdigest()[:16]}.jsonl"
        self._kept = _read(self._path)
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            self._file = os.fdopen(descriptor, "a", encoding="utf-8")
            # NB: the last line of a killed run may be torn; a new line ends it.
            if self._path.stat().st_size:
                self._file.write("\n")
        except OSError as error:
            raise EngineError(f"output: {error.strerror}: {self._path}") from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def find(self, key: str) -> Observation | None:
        """Return the kept answer; None if this request has none."""
        return self._kept.get(key)

    def keep(self, key: str, observation: Observation) -> None:
        """Write one answer to the disk."""
        assert self._file is not None
        line = json.dumps({"key": key} | observation.as_json())
        try:
            self._file.write(line + "\n")
            self._file.flush()
        except OSError as error:
            raise EngineError(
                f"output: {error.strerror}: {self._path}. The run goes on from here after a restart."
            ) from error
        self._kept[key] = observation


def _read(path: Path) -> dict[str, Observation]:
    """Return the complete answers of the file.

    Lines that a kill tore are asked again, and refusals, whose cause may be gone, such as a short context.
    """
    kept: dict[str, Observation] = {}
    try:
        # NB: str.splitlines also splits inside of answers, such as at U+2028.
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return kept
    except OSError as error:
        raise EngineError(f"output: {error.strerror}: {path}") from error
    for line in lines:
        try:
            entry = json.loads(line)
            key = entry.pop("key")
            found = Observation.from_json(entry)
            if found.error is None:
                kept[key] = found
        except (ValueError, LookupError, TypeError, AttributeError):
            continue
    return kept
