"""Fat binaries of CUDA: which GPUs a compiled library holds code for, and a copy that holds one GPU's alone.

A library has a container of code per source file, and in it one entry a GPU. Zeroed entries keep every
offset, so the library loads as before, and they compress to nothing. Pure.
"""

import struct
from collections import Counter
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from typing import Final

PTX: Final = 1
ELF: Final = 2
_KINDS: Final = frozenset({PTX, ELF, 8, 16, 32, 64})
_CONTAINER: Final = struct.Struct("<IHHQ")
"""Magic number, version, size of this header, size of the entries."""
_ENTRY: Final = struct.Struct("<HHIQIIHHI")
"""Kind, attributes, size of this header, size of the payload, then, at offset 28, the architecture."""
_MAGIC: Final = 0xBA55ED50
_HEADERS: Final = range(_ENTRY.size, 513)
"""Sizes in bytes that an entry's header can have."""


@dataclass(frozen=True)
class Entry:
    """Code for one GPU; `start` and `end` bound its payload in the file."""

    kind: int
    architecture: int
    start: int
    end: int


@dataclass
class Pruned:
    """A library without the code of other GPUs; `kept` and `zeroed` count bytes by GPU."""

    content: bytes
    kept: Counter[str] = field(default_factory=Counter)
    zeroed: Counter[str] = field(default_factory=Counter)


def prune(content: bytes, *, architectures: Set[int]) -> Pruned:
    """Zero all code but that of these architectures.

    A container without machine code for them keeps its newest PTX that they can compile.
    """
    found, changed = Pruned(content), bytearray(content)
    for entries in containers(content):
        kept = [one for one in entries if one.kind == ELF and one.architecture in architectures]
        if not kept:
            kept = _newest([one for one in entries if one.architecture <= max(architectures)])
        for entry in entries:
            size, name = entry.end - entry.start, _name(entry)
            if entry in kept:
                found.kept[name] += size
            else:
                found.zeroed[name] += size
                changed[entry.start : entry.end] = bytes(size)
    found.content = bytes(changed)
    return found


def containers(content: bytes) -> Iterator[list[Entry]]:
    """Yield the entries of each container."""
    magic = struct.pack("<I", _MAGIC)
    at = content.find(magic)
    while at >= 0:
        _, version, header, size = (
            _CONTAINER.unpack_from(content, at)
            if at + _CONTAINER.size <= len(content)
            else (0, 0, 0, 0)
        )
        if version == 1 and header == _CONTAINER.size and at + header + size <= len(content):
            yield list(_entries(content, at + header, at + header + size))
            at += header + size
        else:
            at += len(magic)
        at = content.find(magic, at)


def _entries(content: bytes, at: int, end: int) -> Iterator[Entry]:
    while at + _ENTRY.size <= end:
        kind, _, header, size, *_, architecture = _ENTRY.unpack_from(content, at)
        if kind not in _KINDS or header not in _HEADERS or at + header + size > end:
            return
        yield Entry(kind, architecture, at + header, at + header + size)
        at += header + size


def _newest(entries: list[Entry]) -> list[Entry]:
    texts = [one for one in entries if one.kind == PTX]
    newest = max((one.architecture for one in texts), default=0)
    return [one for one in texts if one.architecture == newest]


def _name(entry: Entry) -> str:
    kind = {PTX: "compute", ELF: "sm"}.get(entry.kind, f"kind-{entry.kind}")
    return f"{kind}_{entry.architecture}"
