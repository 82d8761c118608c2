"""Prefix cache of a simulated engine: blocks of text that earlier requests had, the newest ones."""

from collections import OrderedDict
from typing import Final

BLOCK: Final = 64
"""Bytes of a block of a body: 16 tokens of four characters."""


class PrefixCache:
    """Cache of the beginnings of bodies. It holds `tokens` tokens; the block that was used least recently gives way."""

    def __init__(self, tokens: int) -> None:
        self._most = max(1, tokens * 4 // BLOCK)
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def read(self, body: bytes, *, prompt: int) -> int:
        """Return the tokens of a prompt that are cached, and cache all of it; its last token is always computed."""
        last, chain = 0, []
        for start in range(0, len(body) - BLOCK + 1, BLOCK):
            last = hash((last, body[start : start + BLOCK]))
            chain.append(last)
        held = next((at for at, each in enumerate(chain) if each not in self._blocks), len(chain))
        for each in reversed(chain):  # NB: a prompt loses its end before its start, as in vLLM
            self._blocks[each] = None
            self._blocks.move_to_end(each)
        while len(self._blocks) > self._most:
            self._blocks.popitem(last=False)
        return min(held * BLOCK // 4, prompt - 1)
