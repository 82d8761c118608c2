"""Credentials for Prometheus servers: token, headers and certificates from Secrets of the operator's namespace."""

import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from slipstream_operator import errors
from slipstream_operator.core.prometheus import SecretKey, Server

REFRESH_SECONDS: Final = 60.0
"""Seconds after which Secrets are read again, so that rotated tokens are used."""

ReadSecret = Callable[[str], Awaitable[Mapping[str, bytes]]]
"""Returns the entries of a Secret of the operator's namespace by its name."""


class CredentialsError(Exception):
    """Raised if a Secret has no usable content; the message holds none of it."""


class Credentials(AuthBase):
    """Headers and certificates for one server; a callable as `requests` wants it."""

    def __init__(self, headers: Mapping[str, str], authorities: str | None) -> None:
        self._headers = dict(headers)
        self._authorities = authorities
        self.context = (
            None if authorities is None else ssl.create_default_context(cadata=authorities)
        )
        """Context that trusts the server's certificate; None: the public authorities."""

    def holds(self, headers: Mapping[str, str], authorities: str | None) -> bool:
        """Whether these are its headers and certificates."""
        return self._headers == headers and self._authorities == authorities

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the headers to a request."""
        request.headers.update(self._headers)
        return request


class Cache:
    """Credentials of all servers."""

    def __init__(self, read: ReadSecret) -> None:
        self._read = read
        self._known: dict[Server, tuple[float, Credentials]] = {}

    async def of(self, server: Server) -> Credentials:
        """Return the server's credentials, at most REFRESH_SECONDS old; raise CredentialsError."""
        at, known = self._known.get(server, (0.0, None))
        now = time.monotonic()
        if known is not None and now - at < REFRESH_SECONDS:
            return known
        headers = {name: await self._header(name, value) for name, value in server.headers}
        if server.token is not None:
            token = await self._text(server.token, field="tokenSecret")
            headers["Authorization"] = f"Bearer {token}"
        authorities = None if server.ca is None else await self._text(server.ca, field="caSecret")
        if known is None or not known.holds(headers, authorities):
            try:
                known = Credentials(headers, authorities)
            except ssl.SSLError:
                raise CredentialsError(
                    "spec.prometheus.caSecret: the Secret holds no certificate. Use PEM."
                ) from None
        self._known[server] = (now, known)
        return known

    def forget(self, server: Server) -> None:
        """Read the server's Secrets again at the next request: it refused them."""
        self._known.pop(server, None)

    async def _header(self, name: str, value: str | SecretKey) -> str:
        if isinstance(value, str):
            return value
        return await self._text(value, field=f"headers[{name}].secret")

    async def _text(self, secret: SecretKey, *, field: str) -> str:
        name, key = secret
        where = f"spec.prometheus.{field}"
        try:
            entries = await self._read(name)
        except errors.NotFound:
            raise CredentialsError(
                f"{where}: Secret {name} does not exist in the operator's namespace. Create it there."
            ) from None
        except errors.Rejected:
            raise CredentialsError(
                f"{where}: the operator may not read Secret {name}. Add its name to the Role slipstream-operator."
            ) from None
        except errors.TransientError as error:
            raise CredentialsError(f"{where}: Secret {name} could not be read: {error}") from None
        if key not in entries:
            raise CredentialsError(f"{where}: Secret {name} has no key {key}. Add it.")
        text = entries[key].decode("utf-8", "replace").strip()
        if field != "caSecret" and not (text.isascii() and text.isprintable() and text):
            raise CredentialsError(
                f"{where}: key {key} of Secret {name} is no text for an HTTP header. Use one line of ASCII."
            )
        return text


class TrustingAdapter(HTTPAdapter):
    """Adapter that trusts the certificates of one context, and no public authorities beside them."""

    def __init__(self, context: ssl.SSLContext, **options: Any) -> None:
        self._context = context
        super().__init__(**options)

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        """Create the pool with the context."""
        super().init_poolmanager(*arguments, ssl_context=self._context, **options)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Require a certificate. NB: the inherited method would add the public authorities to the context."""
        conn.cert_reqs = "CERT_REQUIRED"
