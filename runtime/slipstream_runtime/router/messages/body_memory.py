"""Memory that the bodies of all requests of a router may take together."""

from slipstream_runtime.router.messages import refusals


class BodyMemory:
    """Bytes of the bodies that the router reads or may still have to send."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0

    def lease(self) -> "Lease":
        """Return the memory of one more body, which is empty."""
        return Lease(self)


class Lease:
    """Memory of one body."""

    __slots__ = ("_memory", "size")

    def __init__(self, memory: BodyMemory) -> None:
        self._memory = memory
        self.size = 0

    def grow(self, size: int) -> None:
        """Take memory for a body of `size` bytes; Refusal if the router has too little."""
        more = size - self.size
        if more <= 0:
            return
        if self._memory.used + more > self._memory.most:
            raise refusals.bodies_full(self._memory.most)
        self._memory.used += more
        self.size = size

    def release(self) -> None:
        """Give the memory back; further calls do nothing."""
        self._memory.used -= self.size
        self.size = 0
