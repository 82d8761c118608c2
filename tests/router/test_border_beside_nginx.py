"""Arbitrary bytes: the router refuses what nginx refuses, and only valid requests reach an engine."""

import asyncio
import contextlib
import os
import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.router import installed, proxies
from dev import waiting
from tests.support import backends
from tests.support.routers import CHAT, routing

BODY = b'{"model": "m"}'
COUNT, AT_ONCE = 1000, 250
PATIENCE = 3.0
"""Seconds to wait for an answer; incomplete requests get none."""

Parts = list[bytes]
"""Request line, header lines without line ends, and the body."""


def _header(dice: random.Random) -> bytes:
    name = dice.choice(
        [b"Content-Length", b"Transfer-Encoding", b"Host", b"X", b"X_Y", b"Connection", b"Expect"]
    )
    value = dice.choice(
        [b"14", b"0", b"+14", b"-1", b"1 4", b"0xe", b"14, 14", b"99999999999999999999", b"chunked",
         b"identity", b"chunked, identity", b"xchunked", b"chunked\x0b", b"r", b"", b"a\x00b", b"a\tb",
         b"\xff", b"close", b"100-continue"]
    )  # fmt: skip
    return name + dice.choice([b": ", b":", b" : ", b":\t", b" ", b""]) + value


def _add(parts: Parts, dice: random.Random) -> None:
    parts.insert(dice.randrange(1, len(parts)), _header(dice))


def _replace(parts: Parts, dice: random.Random) -> None:
    parts[dice.randrange(1, len(parts) - 1)] = _header(dice)


def _fold(parts: Parts, dice: random.Random) -> None:
    parts.insert(dice.randrange(1, len(parts)), dice.choice([b" ", b"\t"]) + _header(dice))


def _line(parts: Parts, dice: random.Random) -> None:
    parts[0] = dice.choice(
        [b"POST  %s HTTP/1.1", b"POST %s  HTTP/1.1", b"POST\t%s HTTP/1.1", b" POST %s HTTP/1.1",
         b"POST %s HTTP/1.1 ", b"POST %s HTTP/2.0", b"POST %s HTTP/1.11", b"POST %s http/1.1",
         b"POST %s", b"P\x00ST %s HTTP/1.1", b"POST http://r%s HTTP/1.1", b"POST %s\x00 HTTP/1.1",
         b"post %s HTTP/1.1", b"POST %s#a HTTP/1.1", b"POST \\%s HTTP/1.1"]
    ) % CHAT.encode()  # fmt: skip


def _byte(parts: Parts, dice: random.Random) -> None:
    place = dice.randrange(len(parts) - 1)
    line = bytearray(parts[place] or b"X")
    line[dice.randrange(len(line))] = dice.randrange(256)
    parts[place] = bytes(line)


CHANGES: tuple[Callable[[Parts, random.Random], None], ...] = (_add, _replace, _fold, _line, _byte)


def requests(dice: random.Random) -> Iterator[bytes]:
    """Requests that may be malformed, each followed by a valid one."""
    good = [
        b"POST %s HTTP/1.1" % CHAT.encode(),
        b"Host: r",
        b"Content-Type: application/json",
        b"Content-Length: 14",
        BODY,
    ]
    last = b"\r\n".join([*good[:-1], b"Connection: close", b"", BODY])
    while True:
        parts = list(good)
        for _ in range(dice.choice([1, 1, 2, 3])):
            dice.choice(CHANGES)(parts, dice)
        ends = [dice.choice([b"\n", b"\r"]) if dice.random() < 0.02 else b"\r\n" for _ in parts[1:]]
        head = b"".join(line + end for line, end in zip(parts[:-1], ends, strict=True))
        yield head + b"\r\n" + parts[-1] + last


async def answered(port: int, data: bytes) -> list[int]:
    """Return the status of each answer on one connection, until it closes or is idle."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    found = b""
    with contextlib.suppress(ConnectionError, TimeoutError):
        writer.write(data)
        async with asyncio.timeout(PATIENCE):
            while piece := await reader.read(65536):
                found += piece
    writer.close()
    return [int(part[2:5]) for part in found.split(b"HTTP/1.")[1:] if part[2:5].isdigit()]


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def program() -> Path:
    try:
        return installed.nginx()
    except installed.UnobtainableError as error:
        pytest.skip(f"nginx can't be had: {error}")


@pytest.mark.timeout(120)
async def test_what_nginx_refuses_is_refused(program: Path, tmp_path: Path) -> None:
    sent = requests(random.Random(0))
    cores = os.sched_getaffinity(0)
    async with backends.running(2) as (engine, behind), routing(engine) as router:
        behind.always = backends.status(200)  # whatever nginx lets through
        with proxies.nginx(tmp_path, program=program, engines=[behind.port], cores=cores) as nginx:
            waiting.until(lambda: listens(nginx.port), seconds=120, what="nginx listening")
            for _ in range(COUNT // AT_ONCE):
                some = [next(sent) for _ in range(AT_ONCE)]
                before = len(engine.received)
                theirs = await asyncio.gather(*(answered(nginx.port, each) for each in some))
                ours = await asyncio.gather(*(answered(router.port, each) for each in some))
                for data, by_nginx, by_router in zip(some, theirs, ours, strict=True):
                    if by_nginx[:1] != [200]:
                        assert by_router[:1] != [200], (data, by_nginx, by_router)
                reached = len(engine.received) - before
                assert reached == sum(statuses.count(200) for statuses in ours)
