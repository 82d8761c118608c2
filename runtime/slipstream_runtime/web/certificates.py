"""Certificates of mounted Secrets, which a server presents or a client trusts, and which may change at any time."""

import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from slipstream_runtime import contract, logs
from slipstream_runtime.errors import UnsuitableError
from slipstream_runtime.web.folder import Folder

CERTIFICATE: Final = "tls.crt"
PRIVATE_KEY: Final = "tls.key"
"""Entries of a Secret of type kubernetes.io/tls, to which cert-manager adds that of `contract.AUTHORITIES`."""


class ServerCertificate:
    """Certificate of a server. `context` presents what the Secret holds at the time of each handshake."""

    def __init__(self, folder: Path, *, clock: Callable[[], float]) -> None:
        self._path = folder
        self._folder = Folder(folder, clock=clock)
        self._current: ssl.SSLContext | None = None
        self.context = _new_server_context()
        self.context.sni_callback = self._choose

    @property
    def usable(self) -> bool:
        """Whether the Secret holds, or held, a certificate with its key."""
        self._renew()
        return self._current is not None

    def _choose(
        self, connection: ssl.SSLObject, _host: str | None, _context: ssl.SSLContext
    ) -> int | None:
        """Give a handshake the present certificate."""
        self._renew()
        if self._current is None:
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        connection.context = self._current
        return None

    def _renew(self) -> None:
        """Load the certificate if the Secret changed; an unusable one is logged, and the one before stays."""
        if self._folder.changed() is None:
            return
        context = _new_server_context()
        try:
            context.load_cert_chain(self._path / CERTIFICATE, self._path / PRIVATE_KEY)
        except (OSError, ssl.SSLError) as error:
            logs.failure("certificate refused", folder=str(self._path), reason=str(error))
            return
        self._current = context
        logs.event("certificate loaded", folder=str(self._path))


class Authorities:
    """Certificate authorities that a client trusts."""

    def __init__(self, folder: Path, *, clock: Callable[[], float]) -> None:
        self._path = folder
        self._folder = Folder(folder, clock=clock)
        self._current: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext | None:
        """Return the context for new connections; None while there are no certificates."""
        entries = self._folder.changed()
        if entries is not None:
            self._load(entries)
        return self._current

    def _load(self, entries: Mapping[str, bytes]) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            # NB: an empty text loads nothing, where `ssl.create_default_context` would trust the public authorities.
            context.load_verify_locations(
                cadata=entries.get(contract.AUTHORITIES, b"").decode("ascii")
            )
        except (ValueError, ssl.SSLError) as error:
            logs.failure(
                "certificate authorities refused", folder=str(self._path), reason=str(error)
            )
            return
        self._current = context
        logs.event("certificate authorities loaded", folder=str(self._path))


def server_context(folder: Path | None) -> ssl.SSLContext | None:
    """Return the context of a server with the certificate of this folder, None without a folder.

    UnsuitableError if the folder has no certificate that can be used.
    """
    if folder is None:
        return None
    certificate = ServerCertificate(folder, clock=time.monotonic)
    if not certificate.usable:
        raise UnsuitableError(
            f"the Secret of spec.tls.engines holds no certificate that can be used: {folder} needs {CERTIFICATE} "
            f"and {PRIVATE_KEY}, in PEM"
        )
    return certificate.context


def only(folder: Path) -> ssl.SSLContext:
    """Return a client's context that trusts the certificate of this folder alone, under any host name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(folder / CERTIFICATE)
    return context


def _new_server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
