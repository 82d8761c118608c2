"""API keys: read when they change, off the event loop if there are many, and unknown rather than wrong."""

import contextlib
import hashlib
import json
import resource
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from slipstream_runtime.web.folder import Folder
from slipstream_runtime.web.keyring import Keyring


class Source:
    """Entries that a test changes; `known` is whether there are any."""

    def __init__(self) -> None:
        self.entries: Mapping[str, bytes] | None = None

    @property
    def known(self) -> bool:
        return True

    def changed(self) -> Mapping[str, bytes] | None:
        found, self.entries = self.entries, None
        return found


def documents(count: int) -> dict[str, bytes]:
    return {
        f"tenant-{number}": f"# {'x' * 100}\nsha256: {digest(number)}\n".encode()
        for number in range(count)
    }


def digest(number: int) -> str:
    return hashlib.sha256(b"key-%d" % number).hexdigest()


def read(keyring: Keyring) -> None:
    """Wait for the threads that read keys."""
    while not keyring.known:
        others = [each for each in threading.enumerate() if each.daemon]
        for each in others:
            each.join(60)


def test_many_documents_are_read_in_a_thread_and_until_then_no_key_is_wrong() -> None:
    source = Source()
    keyring = Keyring(source, now=time.time)
    source.entries = {**documents(400), "bad": b"sha256: no"}
    assert keyring.client(b"key-7") is None
    assert not keyring.known
    read(keyring)
    client = keyring.client(b"key-7")
    assert client is not None
    assert client.tenant == "tenant-7"
    assert keyring.refused == ["bad"]


def test_keys_stay_valid_while_others_are_read() -> None:
    source = Source()
    keyring = Keyring(source, now=time.time)
    source.entries = {"old": b"key-old"}
    assert keyring.client(b"key-old") is not None
    source.entries = documents(400)
    assert keyring.client(b"key-old") is not None
    for each in threading.enumerate():
        if each.daemon:
            each.join(60)
    assert keyring.client(b"key-old") is None
    assert keyring.client(b"key-1") is not None


@pytest.mark.parametrize(
    "content",
    [
        b"sha256: x",
        b"sha256: [",
        b'{"sha256": 1e999}',
        b"sha256: " + b"[" * 8000,
        b"sha256: " + b"9" * 8000,
        b"sha256: 0001-01-01T00:00:00+23:00",
        b"sha256: x\n" + b"#" * 20_000,
        b"sha256: !!python/object:os.system []",
    ],
)
def test_an_entry_that_is_no_key_is_named_and_takes_none_from_the_others(content: bytes) -> None:
    source = Source()
    keyring = Keyring(source, now=time.time)
    source.entries = {"bad": content, "good": b"key-1"}
    keyring.client(None)
    read(keyring)
    assert keyring.client(b"key-1") is not None
    assert keyring.refused == ["bad"]


def test_an_expiry_at_the_end_of_time_is_an_expiry() -> None:
    source = Source()
    keyring = Keyring(source, now=time.time)
    key = {"sha256": digest(1), "expires": "9999-12-31T23:59:59-14:00"}
    source.entries = {"a": json.dumps(key).encode(), "b": b"key-2"}
    assert keyring.client(b"key-2") is not None


@contextlib.contextmanager
def no_open_files() -> Iterator[None]:
    """Let this process open no more files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_keys_that_can_not_be_read_are_unknown_and_known_ones_stay(tmp_path: Path) -> None:
    now = [0.0]
    (tmp_path / "a").write_text("key-1")
    keyring = Keyring(Folder(tmp_path, clock=lambda: now[0]), now=time.time)
    with no_open_files():
        assert keyring.client(b"key-1") is None
        assert not keyring.known
    now[0] += 2
    assert keyring.client(b"key-1") is not None
    (tmp_path / "a").write_text("key-2 and more")
    with no_open_files():
        now[0] += 2
        assert keyring.client(b"key-1") is not None
    now[0] += 2
    assert keyring.client(b"key-1") is None


def test_a_missing_folder_has_no_keys(tmp_path: Path) -> None:
    keyring = Keyring(Folder(tmp_path / "none", clock=time.monotonic), now=time.time)
    assert keyring.client(b"key-1") is None
    assert keyring.known
