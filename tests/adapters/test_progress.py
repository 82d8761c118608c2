"""Progress of a download, read from its pod: the answer of a tenant, which may be invalid or missing."""

import asyncio
import contextlib
import http.server
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from slipstream_operator.adapters import progress
from slipstream_operator.core import fetching
from slipstream_runtime import contract
from slipstream_runtime.fetch import management
from slipstream_runtime.model_files.progress import Progress
from slipstream_runtime.web import status_server

ADDRESS = "127.0.9.1"
"""A loopback address whose port 8001 is free."""


@pytest.fixture
def pod() -> Iterator[Progress]:
    counted = Progress(clock=time.monotonic)
    server = status_server.serve(
        lambda: management.status(counted), port=contract.MANAGEMENT_PORT, host=ADDRESS
    )
    yield counted
    server.shutdown()
    server.server_close()


def answering(content: bytes) -> http.server.HTTPServer:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    return http.server.HTTPServer((ADDRESS, contract.MANAGEMENT_PORT), Handler)


async def test_the_bytes_of_a_download_are_read(pod: Progress) -> None:
    pod.begin(total=1000, present=100)
    pod.add(150)
    found = await progress.Progress().read(ADDRESS)
    assert found is not None
    assert (found.total, found.done) == (1000, 250)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"[" * 5000, b'{"totalBytes": "1"}'])
async def test_an_answer_that_is_not_ours_is_unknown(content: bytes) -> None:
    server = answering(content)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    assert await progress.Progress().read(ADDRESS) in (None, fetching.Progress())
    thread.join()
    server.server_close()


@pytest.mark.parametrize("address", [ADDRESS, "not-an-address", "169.254.169.254/latest"])
async def test_a_pod_that_cannot_be_reached_is_unknown(address: str) -> None:
    assert await progress.Progress().read(address) is None


async def test_a_pod_that_accepts_and_does_not_answer_times_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "TIMEOUT", 0.2)
    with socket.create_server((ADDRESS, contract.MANAGEMENT_PORT)):
        assert await progress.Progress().read(ADDRESS) is None


async def test_many_silent_pods_block_few_workers_and_only_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "TIMEOUT", 0.5)
    reader = progress.Progress()
    addresses = [f"127.0.9.{number}" for number in range(1, 9)]
    with contextlib.ExitStack() as stack:
        servers = {
            one: stack.enter_context(socket.create_server((one, contract.MANAGEMENT_PORT)))
            for one in addresses
        }
        for _ in range(2):
            found = await asyncio.gather(*(reader.read(one) for one in addresses))
            assert found == [None] * len(addresses)
        asked = [len(_connections(server)) for server in servers.values()]
    assert sorted(asked) == [0, 0, 0, 0, 1, 1, 1, 1]


def _connections(server: socket.socket) -> list[socket.socket]:
    server.setblocking(False)
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(server.accept()[0])
    for one in found:
        one.close()
    return found
