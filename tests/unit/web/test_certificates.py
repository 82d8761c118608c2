"""Certificates of mounted Secrets: no context without a usable one, and never the public authorities."""

import ssl
from pathlib import Path

import pytest

from slipstream_runtime.contract import AUTHORITIES
from slipstream_runtime.errors import UnsuitableError
from slipstream_runtime.web import certificates
from slipstream_runtime.web.certificates import CERTIFICATE, PRIVATE_KEY
from tests.support.certificates import Authority


class Clock:
    """Time that each look moves on by more than the interval of checks."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 2
        return self.now


@pytest.mark.parametrize("lost", [CERTIFICATE, PRIVATE_KEY])
def test_an_engine_without_a_usable_certificate_says_what_its_secret_needs(
    tmp_path: Path, lost: str
) -> None:
    folder = Authority().fill(tmp_path / "secret", "a.b")
    (folder / lost).unlink()
    with pytest.raises(UnsuitableError, match=r"spec\.tls\.engines.*tls\.crt and tls\.key"):
        certificates.server_context(folder)


def test_a_server_without_a_folder_has_no_tls() -> None:
    assert certificates.server_context(None) is None


@pytest.mark.parametrize("content", [None, b"", b"junk", "\u00e9".encode()])
def test_a_client_without_authorities_has_no_context(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / AUTHORITIES).write_bytes(content)
    assert certificates.Authorities(tmp_path, clock=Clock()).context() is None


def test_authorities_that_become_unusable_stay(tmp_path: Path) -> None:
    authorities = certificates.Authorities(tmp_path, clock=Clock())
    (tmp_path / AUTHORITIES).write_bytes(Authority().pem)
    before = authorities.context()
    assert isinstance(before, ssl.SSLContext)
    (tmp_path / AUTHORITIES).write_bytes(b"junk")
    assert authorities.context() is before


def test_other_authorities_make_another_context(tmp_path: Path) -> None:
    authorities = certificates.Authorities(tmp_path, clock=Clock())
    (tmp_path / AUTHORITIES).write_bytes(Authority().pem)
    before = authorities.context()
    (tmp_path / AUTHORITIES).write_bytes(Authority().pem)
    assert authorities.context() is not before
