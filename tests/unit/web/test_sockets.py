"""Sockets that processes serve on."""

import asyncio
import socket

import pytest

from slipstream_runtime.web import sockets


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_answers_do_not_wait_for_the_clients_acknowledgement(loop: str) -> None:
    """With Nagle's algorithm a body that follows its head waits 40 ms on a kept connection."""
    delays: list[int] = []

    class Serving(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            accepted = transport.get_extra_info("socket")
            delays.append(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            transport.close()

    async def connect() -> None:
        with sockets.bind(0) as bound:
            server = await asyncio.get_running_loop().create_server(Serving, sock=bound)
            async with server:
                reader, writer = await asyncio.open_connection("localhost", bound.getsockname()[1])
                await reader.read()
                writer.close()

    if loop == "uvloop":
        import uvloop

        uvloop.run(connect())
    else:
        asyncio.run(connect())
    assert delays == [1]
