"""Building of an index from files."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from slipstream_runtime.errors import UnsuitableError
from slipstream_runtime.retrieval import passages
from slipstream_runtime.retrieval.embeddings import Embeddings
from slipstream_runtime.retrieval.index import PROBE, Index

BATCH: Final = 64
"""Passages of one request for vectors."""
MOST: Final = 1_000_000
"""Passages of an index: with vectors of 384 numbers they take 1.5 GB of memory, and a search 0.1 s."""


@dataclass(frozen=True)
class Built:
    """Index, and what it is made of."""

    index: Index
    files: int
    duplicates: int
    """Passages that were left out, because another one has the same text."""


async def build(
    paths: Iterable[Path],
    embeddings: Embeddings,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Built:
    """Return the index of these files; `progress` is called with passages that are done, and all of them."""
    files = passages.files(paths)
    read = [p for file, name in files for p in passages.read(file, source=name)]
    distinct = list({hashlib.sha256(p.text.encode()).digest(): p for p in reversed(read)}.values())
    distinct.reverse()
    if not distinct:
        raise UnsuitableError("The files have no text.")
    if len(distinct) > MOST:
        raise UnsuitableError(
            f"The files have {len(distinct)} passages, and an index holds {MOST}. Build several."
        )
    [probe] = await embeddings.vectors([PROBE])
    found = []
    for start in range(0, len(distinct), BATCH):
        some: Sequence[passages.Passage] = distinct[start : start + BATCH]
        found.append(await embeddings.vectors([passage.text for passage in some]))
        progress(start + len(some), len(distinct))
    index = Index(distinct, np.concatenate(found), embeddings.model, probe)
    return Built(index, len(files), len(read) - len(distinct))
