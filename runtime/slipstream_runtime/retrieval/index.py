"""File of passages and their vectors, and the search in it.

The file is a NumPy archive without pickled objects, so that reading it runs no code. Equal inputs give equal bytes.
"""

import contextlib
import dataclasses
import io
import json
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from slipstream_runtime.errors import EngineError, UnsuitableError, describe
from slipstream_runtime.retrieval.passages import Passage

Floats = npt.NDArray[np.float32]

FORM: Final = 1
"""Version of the file's form."""
_YEAR: Final = (1980, 1, 1, 0, 0, 0)
"""Time of each member of the archive: the earliest that the form knows."""
_PARTS: Final = ("about", "offsets", "texts", "vectors")
_BROKEN: Final = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    EOFError,
    RuntimeError,
    MemoryError,
    OverflowError,
    SyntaxError,
    zlib.error,
    zipfile.BadZipFile,
)
"""Exceptions of NumPy, the archive and this module for a file of another form."""
SAME: Final = 0.99
"""Least similarity of two vectors of one text, by which an encoder counts as the index's own."""


@dataclasses.dataclass(frozen=True)
class Found:
    """Search result."""

    passage: Passage
    score: float
    """Cosine of the angle between the vectors of the question and of the passage."""
    number: int
    """Position of the passage in the index."""


@dataclasses.dataclass(frozen=True)
class Index:
    """Passages, and their vectors of length one."""

    passages: Sequence[Passage]
    vectors: Floats
    model: str
    """Name of the encoder's model."""
    probe: Floats
    """The encoder's vector of `PROBE`."""

    def search(self, vector: Floats, *, most: int) -> list[Found]:
        """Return the nearest passages, the best first."""
        scores = self.vectors @ vector
        most = min(most, len(scores))
        nearest = np.argpartition(-scores, most - 1)[:most]
        ranked = sorted(nearest.tolist(), key=lambda number: (-scores[number], number))
        return [Found(self.passages[n], float(scores[n]), n) for n in ranked]

    def is_of(self, vector: Floats) -> bool:
        """Whether the encoder that made this vector of `PROBE` also made the vectors of the index."""
        return vector.shape == self.probe.shape and float(vector @ self.probe) >= SAME

    def save(self, path: Path) -> None:
        """Write the file at once: no other process sees a part of it. EngineError if it can't be written."""
        texts = [passage.text.encode() for passage in self.passages]
        about = {
            "form": FORM,
            "model": self.model,
            "probe": [float(value) for value in self.probe],
            "sources": [passage.source for passage in self.passages],
        }
        parts: Mapping[str, npt.NDArray[Any]] = {
            "about": _as_bytes(json.dumps(about).encode()),
            "offsets": np.cumsum([0, *map(len, texts)], dtype=np.int64),
            "texts": _as_bytes(b"".join(texts)),
            "vectors": np.ascontiguousarray(self.vectors, dtype=np.float32),
        }
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
                for name in _PARTS:
                    content = io.BytesIO()
                    np.save(content, parts[name], allow_pickle=False)
                    archive.writestr(zipfile.ZipInfo(f"{name}.npy", _YEAR), content.getvalue())
            partial.replace(path)
        except OSError as error:
            raise EngineError(f"{path}: can't be written: {error.strerror or error}") from None
        finally:
            # NB: where the folder is none, there is nothing to remove.
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)


PROBE: Final = "A lighthouse keeper counts the ships of the harbor."
"""Text whose vector tells one encoder from another."""


def check_target(path: Path) -> None:
    """Raise UnsuitableError if no file can be written there, before hours of work for it."""
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise UnsuitableError(
            f"{path}: can't be written. Name a file in an existing folder that you may write into."
        )


def load(path: Path) -> Index:
    """Read an index; UnsuitableError if the file is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = {name: _array(archive, name) for name in _PARTS}
        return _index(parts)
    except OSError as error:
        raise UnsuitableError(f"{path}: can't be read: {error.strerror or error}") from None
    except _BROKEN as error:
        raise UnsuitableError(
            f"{path}: is not an index of this version ({describe(error)}). Build it again with slipstream index."
        ) from None


def _array(archive: zipfile.ZipFile, name: str) -> npt.NDArray[Any]:
    with archive.open(f"{name}.npy") as member:
        found: npt.NDArray[Any] = np.load(member, allow_pickle=False)
        return found


def _index(parts: Mapping[str, npt.NDArray[Any]]) -> Index:
    about = json.loads(parts["about"].tobytes())
    if about["form"] != FORM:
        raise ValueError(f"form {about['form']}")
    vectors, offsets, sources = parts["vectors"], parts["offsets"].tolist(), about["sources"]
    count = len(sources)
    probe = np.asarray(about["probe"], np.float32)
    if vectors.dtype != np.float32 or vectors.ndim != 2 or not count:
        raise ValueError("vectors of another form")
    if vectors.shape != (count, len(probe)) or len(offsets) != count + 1:
        raise ValueError("parts of different lengths")
    if not (np.isfinite(vectors).all() and np.isfinite(probe).all()):
        raise ValueError("vectors that are no numbers")
    texts = parts["texts"].tobytes()
    if offsets[0] != 0 or offsets[-1] != len(texts) or offsets != sorted(offsets):
        raise ValueError("texts of other lengths")
    passages = [
        Passage(texts[start:end].decode(), str(source))
        for start, end, source in zip(offsets[:-1], offsets[1:], sources, strict=True)
    ]
    return Index(passages, vectors, str(about["model"]), probe)


def _as_bytes(content: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(content, np.uint8)
