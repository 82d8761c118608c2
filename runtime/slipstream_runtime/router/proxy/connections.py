"""Connections of clients: as many as the router takes in all and of one address, of which the idlest make room."""

import heapq
import ipaddress
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

_HOST_PREFIX: Final = 64
"""Bits of an IPv6 address that a host can't choose."""
_AT_ONCE: Final = 64
"""Idle connections that make room at once, so that the search for them costs little for each."""


def peer(name: Sequence[Any] | None) -> str:
    """Return the address in the name of a client's socket; for IPv6 its network, since a host has all of it."""
    if not name:
        return ""
    host = str(name[0])
    if ":" not in host:
        return host
    address = ipaddress.IPv6Address(host)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, _HOST_PREFIX), strict=False))


class Connection(Protocol):
    """Connection as the limits see it."""

    peer: str

    @property
    def idle_since(self) -> float | None:
        """Seconds of the loop's clock; None while it has a request."""
        ...

    def drop(self) -> None:
        """Close at once."""
        ...


class Limits:
    """Numbers of connections by address."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._by_peer: Counter[str] = Counter()

    @property
    def share(self) -> int:
        """Most connections of one address: a half, since a proxy in front has one address for all clients."""
        return max(1, self.most // 2)

    def opened(self, connection: Connection, others: Iterable[Connection], *, count: int) -> bool:
        """Count a new connection; False if it must be refused. `count` are all connections, without this one."""
        peer = connection.peer
        self._by_peer[peer] += 1
        if self._by_peer[peer] > self.share:
            return _make_room(others, peer=peer)
        if count >= self.most:
            [(largest, _)] = self._by_peer.most_common(1)
            return _make_room(others, peer=largest) or _make_room(others, peer=None)
        return True

    def closed(self, connection: Connection) -> None:
        """Count a connection out."""
        self._by_peer[connection.peer] -= 1
        if not self._by_peer[connection.peer]:
            del self._by_peer[connection.peer]


def _make_room(connections: Iterable[Connection], *, peer: str | None) -> bool:
    """Close the connections that are idle for longest; False if none is idle. `peer` limits them to an address."""
    idle = [
        (since, number, each)
        for number, each in enumerate(connections)
        if (peer is None or each.peer == peer) and (since := each.idle_since) is not None
    ]
    longest = heapq.nsmallest(min(_AT_ONCE, 1 + len(idle) // 16), idle)
    for _, _, connection in longest:
        connection.drop()
    return bool(longest)
