"""Sockets that are bound before anything can go wrong with what is served on them."""

import socket


def bind(port: int) -> socket.socket:
    """A bound socket on all addresses, IPv6 too where there is any; it listens only once it is served."""
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    # NB: asyncio sets TCP_NODELAY only where the protocol is named; without it, kept connections wait 40 ms for an ACK.
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
