"""The prefix cache of one simulated engine, as vLLM's: blocks of 16 tokens, the least recently used go first."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Final

BLOCK: Final = 16
"""Tokens."""


@dataclass(slots=True)
class PrefixCache:
    """Blocks that running requests refer to stay; of the others as many as the free memory holds."""

    capacity: int
    """KV tokens of the engine."""
    _referred: dict[int, int] = field(default_factory=dict)
    _idle: dict[int, None] = field(default_factory=dict)
    _computed: dict[Hashable, Sequence[int]] = field(default_factory=dict)

    def cached(self, chain: Sequence[int], prompt: int) -> int:
        """Tokens of a prompt that need no computing; its last is always computed."""
        for position, block in enumerate(chain):
            if block not in self._referred and block not in self._idle:
                return position * BLOCK
        return min(len(chain) * BLOCK, prompt - 1)

    def computed(self, key: Hashable, chain: Sequence[int]) -> None:
        """The request's prompt is there, and stays for as long as it runs."""
        self._computed[key] = chain
        for block in chain:
            self._idle.pop(block, None)
            self._referred[block] = self._referred.get(block, 0) + 1

    def finished(self, key: Hashable, chain: Sequence[int]) -> None:
        """The request is over; `chain` is its prompt and its answer."""
        held = self._computed.pop(key)
        for block in held:
            self._referred[block] -= 1
            if not self._referred[block]:
                del self._referred[block]
        # The end of a prompt is evicted before its start.
        for block in reversed(chain):
            if block not in self._referred:
                self._idle.pop(block, None)
                self._idle[block] = None

    def shrink(self, used: int) -> None:
        """Evict what running requests, with `used` KV tokens, leave no room for."""
        room = max(0, self.capacity - used) // BLOCK
        while len(self._idle) > room:
            del self._idle[next(iter(self._idle))]
