"""Memory that the response caches of all services take together, with the copies of answers on their way to them."""

from collections import OrderedDict
from typing import Protocol


class Holder(Protocol):
    """Cache of one service."""

    def evict(self, key: bytes) -> None:
        """Drop an answer."""
        ...


class CacheMemory:
    """Bytes of the answers; beyond `most`, the least recently used of all services are evicted."""

    def __init__(self) -> None:
        self.most: int | None = None
        """None: no limit but that of each cache."""
        self.used = 0
        self._answers: OrderedDict[tuple[int, bytes], Holder] = OrderedDict()

    def try_take(self, size: int) -> bool:
        """Take memory for a copy; False if there is too little without other answers."""
        if self.most is not None:
            while self.used + size > self.most and self._answers:
                (_, key), holder = next(iter(self._answers.items()))
                holder.evict(key)
            if self.used + size > self.most:
                return False
        self.used += size
        return True

    def give_back(self, size: int) -> None:
        """Give the memory of a copy back."""
        self.used -= size

    def keep(self, holder: Holder, key: bytes, size: int) -> bool:
        """Take memory for an answer that may be evicted; False if there is too little."""
        if not self.try_take(size):
            return False
        self._answers[id(holder), key] = holder
        return True

    def touch(self, holder: Holder, key: bytes) -> None:
        """Note the use of an answer."""
        self._answers.move_to_end((id(holder), key))

    def drop(self, holder: Holder, key: bytes, size: int) -> None:
        """Give the memory of an answer back."""
        del self._answers[id(holder), key]
        self.used -= size
