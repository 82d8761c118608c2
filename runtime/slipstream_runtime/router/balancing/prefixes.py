"""Index of the engines that have probably computed a prompt's prefix, by hashed blocks of text.

The estimate needs no tokenizer and no message from the engines. A wrong estimate costs time, never
a wrong answer.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import orjson
import xxhash

SMALL: Final = 64
"""Bytes of a block at the start of a prompt: about the 16 tokens of a vLLM block."""
LARGE: Final = 512
"""Bytes of a block past `FINE`, where prompts rarely diverge and hashing must be cheap."""
FINE: Final = 4096
"""Bytes at the start of a prompt that are hashed in `SMALL` blocks."""
MOST: Final = 256
"""Blocks per prompt that are hashed, about 100 KB."""
DEFAULT_CAPACITY: Final = 31_250
"""`SMALL` blocks of an engine whose KV capacity is unknown: 500,000 tokens."""

_FIRST_LARGE: Final = FINE // SMALL
_PROMPT: Final = ("tools", "documents", "instructions", "system", "messages", "prompt", "input")
"""Fields of a prompt, in the order in which chat templates use them."""


def blocks(body: Mapping[str, object], *, model: str, tenant: str) -> tuple[int, ...]:
    """Return chained hashes of the complete blocks of a request's prompt; `body` was parsed by orjson.

    Equal hashes mean an equal prompt up to that block, of the same model or adapter, tenant and
    `cache_salt`.
    """
    text = _text(body)
    owner = orjson.dumps((model, tenant, body.get("cache_salt")))
    digest = xxhash.xxh3_64_intdigest
    last = digest(owner)
    chain: list[int] = []
    for start in range(0, min(FINE, len(text) - SMALL + 1), SMALL):
        last = digest(text[start : start + SMALL], last)
        chain.append(last)
    end = min(len(text), FINE + LARGE * (MOST - _FIRST_LARGE))
    for start in range(FINE, end - LARGE + 1, LARGE):
        last = digest(text[start : start + LARGE], last)
        chain.append(last)
    return tuple(chain)


def _text(body: Mapping[str, object]) -> bytes:
    """Return the prompt as bytes; a longer conversation's bytes start with those of the shorter."""
    prompt = body.get("prompt")
    if isinstance(prompt, str):
        return prompt.encode()
    if isinstance(prompt, list) and prompt and all(type(token) is int for token in prompt):
        return _tokens(prompt)
    parts = [(name, body[name]) for name in _PROMPT if body.get(name)]
    return orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)


def _tokens(prompt: list[int]) -> bytes:
    """Return four bytes per token, as the text of a token has on average; larger ids wrap."""
    return array("I", (token & 0xFFFFFFFF for token in prompt)).tobytes()


def length(blocks: Sequence[int]) -> int:
    """Return a prompt's length in `SMALL` blocks."""
    return _length(len(blocks))


@dataclass(slots=True)
class _Holder:
    """Blocks of one endpoint, the least recently used first, each with its size in `SMALL` blocks."""

    bit: int
    capacity: int
    size: int = 0
    sizes: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Index:
    """Blocks that each endpoint was sent, bounded per endpoint like its KV cache.

    NB: the holders of a block are the bits of a number, so that a lookup costs
    O(blocks + endpoints) and not their product.
    """

    capacity: int = DEFAULT_CAPACITY
    """`SMALL` blocks of an endpoint that was never resized."""
    _holders: dict[str, _Holder] = field(default_factory=dict)
    _held: dict[int, int] = field(default_factory=dict)
    """Holders of a block; one bit each."""

    def hits(self, blocks: Sequence[int]) -> Mapping[str, float]:
        """Return the share of the prompt, from its start, that each endpoint holds, without zeros."""
        if not blocks:
            return {}
        matched: dict[int, int] = {}
        alive, held = self._taken(), self._held.get
        for position, block in enumerate(blocks):
            found = alive & held(block, 0)
            if found != alive:
                size = _length(position)
                matched.update((bit, size) for bit in _bits(alive ^ found))
                alive = found
                if not alive:
                    break
        total = length(blocks)
        matched.update((bit, total) for bit in _bits(alive))
        return {
            name: matched[holder.bit] / total
            for name, holder in self._holders.items()
            if matched[holder.bit]
        }

    def insert(self, endpoint: str, blocks: Sequence[int]) -> None:
        """Note that the endpoint has computed the prompt."""
        holder = self._holder(endpoint)
        # Backwards, so that a prompt loses its end before its start, as in vLLM.
        for position in range(len(blocks) - 1, -1, -1):
            block = blocks[position]
            size = holder.sizes.pop(block, 0)
            if not size:
                size = _size(position)
                holder.size += size
                self._held[block] = self._held.get(block, 0) | holder.bit
            holder.sizes[block] = size
        self._evict(holder)

    def forget(self, endpoint: str) -> None:
        """Drop all blocks of an endpoint that is gone or was restarted."""
        holder = self._holders.pop(endpoint, None)
        if holder is not None:
            for block in holder.sizes:
                self._release(block, holder)

    def resize(self, endpoint: str, blocks: int) -> None:
        """Set the number of `SMALL` blocks that an endpoint's KV cache holds."""
        holder = self._holder(endpoint)
        holder.capacity = blocks
        self._evict(holder)

    def size(self, endpoint: str) -> int:
        """Return the number of `SMALL` blocks that an endpoint holds."""
        holder = self._holders.get(endpoint)
        return holder.size if holder else 0

    def _evict(self, holder: _Holder) -> None:
        while holder.size > holder.capacity:
            block = next(iter(holder.sizes))
            holder.size -= holder.sizes.pop(block)
            self._release(block, holder)

    def _release(self, block: int, holder: _Holder) -> None:
        left = self._held[block] & ~holder.bit
        if left:
            self._held[block] = left
        else:
            del self._held[block]

    def _holder(self, endpoint: str) -> _Holder:
        if endpoint not in self._holders:
            taken = self._taken()
            self._holders[endpoint] = _Holder(~taken & (taken + 1), self.capacity)
        return self._holders[endpoint]

    def _taken(self) -> int:
        """Return the bits of all endpoints."""
        return sum(holder.bit for holder in self._holders.values())


def _length(count: int) -> int:
    """Return the length of the first `count` blocks."""
    large = max(0, count - _FIRST_LARGE)
    return count - large + large * (LARGE // SMALL)


def _size(position: int) -> int:
    return 1 if position < _FIRST_LARGE else LARGE // SMALL


def _bits(number: int) -> Iterator[int]:
    while number:
        lowest = number & -number
        yield lowest
        number ^= lowest
