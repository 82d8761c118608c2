"""A real S3 server on this machine: moto, as a process in an environment of its own."""

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import obstore
import pytest
from obstore.store import S3Store

from dev import waiting
from dev.environments import locked

LOCK = Path(__file__).parents[2] / "requirements" / "store.txt"


@dataclass(frozen=True)
class Store:
    """The server and one bucket in it."""

    url: str
    log: Path
    bucket: str = "weights"

    def open_to(self, environment: pytest.MonkeyPatch) -> None:
        """Set the variables with which clients in this process reach the store."""
        for name, value in {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }.items():
            environment.setenv(name, value)

    def downloads(self, key: str) -> int:
        """Count the requests that began to read this object."""
        return self.log.read_text().count(f"GET /{self.bucket}/{key} ")

    def put(self, files: Mapping[str, bytes], *, prefix: str) -> None:
        client = S3Store(
            self.bucket,
            endpoint=self.url,
            region="us-east-1",
            access_key_id="key",
            secret_access_key="secret",
            client_options={"allow_http": True},
        )
        for name, content in files.items():
            obstore.put(client, f"{prefix}/{name}", content)

    def put_raw(self, key: str, content: bytes) -> None:
        """Store an object under a key that clients would not send as it is."""
        host, _, port = self.url.removeprefix("http://").partition(":")
        head = (
            f"PUT /{self.bucket}/{key} HTTP/1.1\r\nHost: {host}\r\nx-amz-acl: public-read\r\n"
            f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
        )
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(head.encode() + content)
            answer = connection.makefile("rb").readline()
        assert b" 200 " in answer, answer

    def check_credentials(self, *, after: int) -> None:
        """From this many requests on, refuse keys that are nobody's."""
        httpx.post(f"{self.url}/moto-api/reset-auth", content=str(after)).raise_for_status()


@contextlib.contextmanager
def serve(folder: Path, *, host: str = "127.0.0.1") -> Iterator[Store]:
    """Serve an empty bucket until the end of the block."""
    with socket.create_server((host, 0)) as free:
        port = free.getsockname()[1]
    python = locked.python(LOCK)
    log = folder / "store.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(python), "-m", "moto.server", "-H", host, "-p", str(port)],
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONPATH": ""},
        )
    store = Store(f"http://{host}:{port}", log)

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(httpx.TransportError):
            return httpx.put(f"{store.url}/{store.bucket}", timeout=20).is_success
        return False

    try:
        waiting.until(answers, seconds=300, what="the S3 server", log=log)
        yield store
    finally:
        process.terminate()
        process.wait(20)
