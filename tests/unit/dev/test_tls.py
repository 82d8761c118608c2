"""TLS context that the threads of the cluster's client share."""

import ssl
from pathlib import Path

import pytest

from dev.cluster import pki
from dev.cluster.tls import SharedContext


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    folder = tmp_path / "pki"
    authority = pki.Authority(folder)
    authority.issue("client", subject=pki.Subject("a-user"))
    authority.issue("server", subject=pki.Subject("a-server", addresses=("127.0.0.1",)))
    return folder


def test_a_connection_that_sets_its_protocols_does_not_change_those_of_the_others(
    certificates: Path,
) -> None:
    context = SharedContext(
        certificates / "ca.crt", certificates / "client.crt", certificates / "client.key"
    )
    context.set_alpn_protocols(["h2"])
    assert _handshake(context, "127.0.0.1", certificates) == "http/1.1"


def test_a_server_of_another_name_is_refused(certificates: Path) -> None:
    context = SharedContext(
        certificates / "ca.crt", certificates / "client.crt", certificates / "client.key"
    )
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(context, "127.0.0.2", certificates)


def _handshake(context: ssl.SSLContext, address: str, certificates: Path) -> str | None:
    """Return the protocol that the client and a server with client certificates agree on."""
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates / "ca.crt")
    serving.load_cert_chain(certificates / "server.crt", certificates / "server.key")
    serving.verify_mode = ssl.CERT_REQUIRED
    serving.set_alpn_protocols(["h2", "http/1.1"])
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server, server_hostname=address)
    server = serving.wrap_bio(to_server, to_client, server_side=True)
    done = False
    while not done:
        done = _step(client)
        done = _step(server) and done
    return client.selected_alpn_protocol()


def _step(side: ssl.SSLObject) -> bool:
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True
