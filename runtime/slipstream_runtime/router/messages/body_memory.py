"""Memory that the headers, bodies and unread answers of all requests of a router may take together."""

from slipstream_runtime.router.messages import refusals
from slipstream_runtime.web.refusal import Refusal


class BodyMemory:
    """Bytes of the requests that the router reads or may still have to send, in all and for each client."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.largest = 0
        """Bytes of the largest body that a client may send."""
        self.used = 0
        self._by_client: dict[str, int] = {}

    @property
    def share(self) -> int:
        """Most bytes of one client: about a half, so that it leaves something for others; never less than one body."""
        return max(self.most // 2, min(self.most, self.largest * 9 // 8))

    def lease(self, client: str, *, beside: int = 0) -> "Lease":
        """Return the memory of one more request; `client` is its tenant or its address.

        `beside` are bytes that are taken with the first of its body.
        """
        return Lease(self, client, beside)

    def used_by(self, client: str) -> int:
        """Return the bytes that the client uses."""
        return self._by_client.get(client, 0)

    def add(self, client: str, more: int) -> None:
        """Add to the bytes of the client; less than 0 gives back."""
        self.used += more
        used = self.used_by(client) + more
        if used:
            self._by_client[client] = used
        else:
            self._by_client.pop(client, None)


class Lease:
    """Memory of one request."""

    __slots__ = ("_beside", "_client", "_memory", "size")

    def __init__(self, memory: BodyMemory, client: str, beside: int) -> None:
        self._beside = beside
        self._memory = memory
        self._client = client
        self.size = 0

    def grow(self, size: int) -> None:
        """Take memory for `size` bytes; Refusal if the router or the client's share has too little."""
        size += self._beside
        more = size - self.size
        if more <= 0:
            return
        memory, client = self._memory, self._client
        if (
            memory.used + more > memory.most
            or memory.used_by(client) + more > memory.most // 2  # no client's share is less
        ):
            self._check(size, more)
        memory.add(client, more)
        self.size = size

    def _check(self, size: int, more: int) -> None:
        memory = self._memory
        if size > memory.share:
            raise refusals.body_beyond_memory(size, most=memory.share)
        if memory.used + more > memory.most:
            raise refusals.bodies_full(memory.most)
        if memory.used_by(self._client) + more > memory.share:
            raise refusals.client_bodies_full(memory.share)

    def try_grow(self, size: int) -> bool:
        """Take memory for `size` bytes; False if there is too little."""
        try:
            self.grow(size)
        except Refusal:
            return False
        return True

    def release(self) -> None:
        """Give the memory back; further calls do nothing."""
        if self.size:
            self._memory.add(self._client, -self.size)
            self.size = 0
