"""TLS context of a client whose threads share it."""

import ssl
from collections.abc import Iterable
from pathlib import Path


class SharedContext(ssl.SSLContext):
    """Client context for HTTP/1.1 that connections of several threads can use at once.

    NB: httpcore sets the protocols of ALPN again for each connection. OpenSSL then frees the list while other threads
    may copy it into their ClientHello, and the server answers with the alert decode_error.
    """

    def __new__(cls, *_: object) -> "SharedContext":
        """Create a context that checks the server's certificate and name."""
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, authority: Path, certificate: Path, key: Path) -> None:
        super().set_alpn_protocols(["http/1.1"])
        self.load_verify_locations(authority)
        self.load_cert_chain(certificate, key)

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        """Leave the protocols as they are."""
