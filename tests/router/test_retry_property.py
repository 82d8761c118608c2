"""Failures at any point: the client gets one answer, and no retry happens after its first byte."""

import itertools

import pytest

from tests.support import backends
from tests.support.backends import Behavior, Peer, Received
from tests.support.routers import routing


def at(point: int) -> Behavior:
    """Fail at one of the points of an answer, in order."""

    async def behave(peer: Peer, received: Received) -> None:
        if point == 0:
            peer.reset()
        elif point == 1:
            await peer.write(b"HTTP/1.1 200 OK\r\ncontent-")
            peer.reset()
        elif point == 2:
            await peer.stream()
            peer.reset()
        elif point == 3:
            await peer.stream()
            await peer.write(b"7f\r\n")
            peer.reset()
        elif point == 4:
            await peer.stream()
            await peer.write(b'7f\r\ndata: {"cho')
            await _passed(peer)
        elif point == 5:
            await peer.stream()
            await peer.tokens(1)
            await _passed(peer)
        else:
            await peer.stream()
            await peer.tokens(3)
            await peer.write(b"5\r\ndata:\r\n0\r\n\r\n")

    return behave


async def _passed(peer: Peer) -> None:
    """Close the connection once the router has read the bytes before."""
    peer.writer.write_eof()
    await peer.left()


SENT_AGAIN = {0, 1, 2, 3}


@pytest.mark.parametrize("points", list(itertools.product(range(7), repeat=2)))
async def test_an_answer_is_never_two(points: tuple[int, int]) -> None:
    async with backends.running(3) as engines, routing(*engines) as router:
        for engine, point in zip(engines, points, strict=False):
            engine.always = at(point)
        reply = await router.ask(stream=True)
        received = sum(len(engine.received) for engine in engines)

        wanted = 2 if points[0] in SENT_AGAIN else 1
        assert received == wanted
        assert reply.whole
        unanswered = SENT_AGAIN.issuperset(points)
        assert reply.status == (502 if unanswered else 200)
        assert reply.body.count(b'"error":{') == 1
        assert b"[DONE]" not in reply.body
        assert reply.body.count(b'"content": "0 "') <= 1
