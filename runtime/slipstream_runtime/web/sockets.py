"""Sockets, bound at the start of a process, before its server exists."""

import socket


def bind(port: int) -> socket.socket:
    """Return a socket bound to all addresses, also of IPv6 where there is one; it doesn't listen yet."""
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    # NB: asyncio sets TCP_NODELAY only if the protocol is named; without it, kept connections wait 40 ms for an ACK.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if dual:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        bound.bind(("", port))
    except OSError:
        bound.close()
        raise
    return bound
