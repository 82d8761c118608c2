"""API keys: who is known, how keys change without a restart, and what fails closed."""

import hashlib
import re
import time
from pathlib import Path

import pytest

from dev import waiting
from slipstream_runtime.web import keys as headers_of
from slipstream_runtime.web.folder import Folder
from slipstream_runtime.web.keyring import Keyring


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Keys:
    """Keys of a mounted folder, as an engine reads them."""

    def __init__(self, folder: Path, *, clock: Clock) -> None:
        self._keyring = Keyring(Folder(folder, clock=clock), now=lambda: 0.0)

    def tenant(self, headers: list[tuple[bytes, bytes]]) -> str | None:
        client = self._keyring.client(headers_of.in_headers(headers))
        return None if client is None else client.tenant


def bearer(key: str, *, scheme: str = "Bearer") -> list[tuple[bytes, bytes]]:
    return [(b"host", b"h"), (b"authorization", f"{scheme} {key}".encode())]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "blue").write_text("b1\nb2, b3\n\n")
    (tmp_path / "red").write_text("r1")
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data" / "old").write_text("o1")
    return tmp_path


@pytest.mark.parametrize(
    ("headers", "tenant"),
    [
        (bearer("r1"), "red"),
        (bearer("b1"), "blue"),
        (bearer("b2"), "blue"),
        (bearer("b3", scheme="bearer"), "blue"),
        (bearer(" b1 "), "blue"),
        (bearer("r2"), None),
        (bearer("R1"), None),
        (bearer("r"), None),
        (bearer(""), None),
        (bearer(","), None),
        (bearer("b1\nb2"), None),
        (bearer("o1"), None),
        (bearer("r1", scheme="Basic"), None),
        ([(b"authorization", b"r1")], None),
        ([(b"authorization", b"Bearer")], None),
        ([(b"authorization", b"\xff\xfe")], None),
        ([*bearer("r1"), *bearer("r2")], None),
        ([], None),
    ],
)
def test_only_a_bearer_of_a_whole_key_is_known(
    folder: Path, headers: list[tuple[bytes, bytes]], tenant: str | None
) -> None:
    assert Keys(folder, clock=Clock()).tenant(headers) == tenant


def test_keys_change_without_a_restart_and_files_are_looked_at_once_a_second(folder: Path) -> None:
    clock = Clock()
    keys = Keys(folder, clock=clock)
    assert keys.tenant(bearer("r1")) == "red"
    (folder / "new").write_text("r2")
    (folder / "red").unlink()
    clock.now = 0.9
    assert keys.tenant(bearer("r1")) == "red"
    clock.now = 1.0
    assert keys.tenant(bearer("r1")) is None
    assert keys.tenant(bearer("r2")) == "new"


def test_a_mounted_secret_that_is_swapped_is_read_anew(tmp_path: Path) -> None:
    for version in ("1", "2"):
        (tmp_path / f"..{version}").mkdir()
        (tmp_path / f"..{version}" / "team").write_text(f"key-{version}")
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "team").symlink_to("..data/team")
    clock = Clock()
    keys = Keys(tmp_path, clock=clock)
    assert keys.tenant(bearer("key-1")) == "team"
    (tmp_path / "..tmp").symlink_to("..2")
    (tmp_path / "..tmp").rename(tmp_path / "..data")
    clock.now = 2.0
    assert keys.tenant(bearer("key-1")) is None
    assert keys.tenant(bearer("key-2")) == "team"


def test_without_keys_nobody_is_known_until_there_are_some(tmp_path: Path) -> None:
    clock = Clock()
    keys = Keys(tmp_path / "none", clock=clock)
    assert keys.tenant(bearer("")) is None
    assert keys.tenant(bearer("k")) is None
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "team").write_text("k")
    clock.now = 1.0
    assert keys.tenant(bearer("k")) == "team"


def test_a_link_to_nowhere_holds_no_keys(folder: Path) -> None:
    (folder / "lost").symlink_to("..data/none")
    assert Keys(folder, clock=Clock()).tenant(bearer("r1")) == "red"


@pytest.mark.parametrize(
    ("headers", "tenant"),
    [
        ([(b"x-api-key", b"r1")], "red"),
        ([(b"x-api-key", b" b1 ")], "blue"),
        ([(b"x-api-key", b"unknown")], None),
        ([(b"x-api-key", b"r1"), (b"x-api-key", b"r1")], None),
        ([*bearer("b1"), (b"x-api-key", b"r1")], "blue"),
        ([*bearer("unknown"), (b"x-api-key", b"r1")], None),
    ],
)
def test_a_key_may_come_as_anthropics_clients_send_it(
    folder: Path, headers: list[tuple[bytes, bytes]], tenant: str | None
) -> None:
    assert Keys(folder, clock=Clock()).tenant(headers) == tenant


DOCUMENTS = {
    "yaml": "sha256: {}\ntenant: red\npriority: 10\n",
    "json": '{{"sha256": "{}", "tenant": "red", "priority": 10}}',
}


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_a_document_of_a_key_opens_with_the_key_alone_and_not_with_its_own_lines(
    tmp_path: Path, document: str
) -> None:
    text = document.format(hashlib.sha256(b"r1").hexdigest())
    (tmp_path / "entry").write_text(text)
    keys = Keys(tmp_path, clock=Clock())
    for line in re.split("[\n,]", text):
        assert keys.tenant(bearer(line)) is None
    assert keys.tenant(bearer("r1")) == "red"


@pytest.mark.parametrize(
    "document",
    [
        "sha256: " + "[" * 15_000,
        "sha256: x\ny: " + "{z: " * 3900,
        "sha256: " + "[" * 7500 + "]" * 7500,
        '{"sha256": ' + "[" * 16_000,
        "sha256: \x00",
        "sha256: &a [*a]",
    ],
    ids=["lists", "maps", "closed lists", "JSON", "NUL", "a loop"],
)
def test_an_odd_document_of_a_key_leaves_the_other_keys(folder: Path, document: str) -> None:
    """Each level would take a pure parser of YAML longer than the one before, and all requests wait meanwhile."""
    for number in range(20):
        (folder / f"odd-{number}").write_text(document)
    began, keys = time.process_time(), Keys(folder, clock=Clock())
    waiting.until(
        lambda: keys.tenant(bearer("r1")) == "red", seconds=60, what="the keys", interval=0.01
    )
    assert time.process_time() - began < 2
