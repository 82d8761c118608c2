"""Connections to engines; separates failures that may be retried from those that may not."""

import asyncio
import contextlib
import enum
import io
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Final, Self

import aiohttp
from multidict import CIMultiDict

from slipstream_runtime import contract
from slipstream_runtime.router.balancing.endpoints import Endpoint
from slipstream_runtime.router.config import ServiceLimits
from slipstream_runtime.router.messages import refusals
from slipstream_runtime.router.messages.request import Request
from slipstream_runtime.web.certificates import Authorities
from slipstream_runtime.web.folder import Folder
from slipstream_runtime.web.refusal import Refusal

_AGAIN: Final = frozenset({502, 503})
"""Status codes of an engine that did not process the request."""
_AT_ONCE_BYTES: Final = 1024 * 1024
"""Bytes of a body that are sent at once; a larger one is sent in parts, so that other requests are not delayed."""
_MOST_HEADER_BYTES: Final = 256 * 1024
"""Bytes of one header of an answer: vLLM describes 2,000 vectors in bytes in a header."""
_KEEP_SECONDS: Final = 30.0
"""Seconds of an idle connection; shorter than in engines, or a request could meet a closing socket."""


class Fault(enum.StrEnum):
    """Failures that may be retried: values of the label `reason`."""

    CONNECT = "connect"
    RESET = "reset"
    TIMEOUT = "timeout"
    STATUS = "status"


class Unanswered(Exception):  # noqa: N818 (not always an error)
    """Raised if the engine did not answer and the client got no byte; the refusal is for the last attempt."""

    def __init__(self, fault: Fault, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.fault = fault
        self.refusal = refusal


class RouterToken:
    """Token of the router, from a file that may change."""

    def __init__(self, folder: Path, *, clock: Callable[[], float]) -> None:
        self._folder = Folder(folder, clock=clock)
        self._value: str | None = None

    def value(self) -> str | None:
        """Return the token; None if there is none."""
        entries = self._folder.changed()
        if entries is not None:
            self._value = (
                entries.get(contract.ROUTER_TOKEN_KEY, b"").decode("latin-1").strip() or None
            )
        return self._value


class Upstream:
    """Connection pool to all engines; a context manager.

    An engine with TLS must present a certificate for `engines_host` that one of the authorities signed.
    """

    def __init__(
        self, *, authorities: Authorities | None = None, engines_host: str | None = None
    ) -> None:
        self._authorities = authorities
        self._engines_host = engines_host
        connector = aiohttp.TCPConnector(
            limit=0, keepalive_timeout=_KEEP_SECONDS, use_dns_cache=False, force_close=False
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("accept", "accept-encoding", "user-agent"),
            read_bufsize=2**16,
            max_field_size=_MOST_HEADER_BYTES,
        )
        self._timeouts: dict[float, aiohttp.ClientTimeout] = {}

    @property
    def session(self) -> aiohttp.ClientSession:
        """Session for requests to the management ports."""
        return self._session

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def send(
        self,
        endpoint: Endpoint,
        *,
        request: Request,
        body: bytes,
        headers: CIMultiDict[str],
        limits: ServiceLimits,
    ) -> aiohttp.ClientResponse:
        """Return the engine's response once its headers arrived; Unanswered if the request may be retried.

        Refusal if the engine rejects the router's token.
        """
        try:
            if limits.head_timeout is None:
                reply = await self._send(endpoint, request, body, headers, limits)
            else:
                async with asyncio.timeout(limits.head_timeout):
                    reply = await self._send(endpoint, request, body, headers, limits)
        except aiohttp.ClientConnectorCertificateError:
            message = f"The replica has no valid certificate for {self._engines_host}."
            raise Unanswered(Fault.CONNECT, refusals.upstream(message)) from None
        except aiohttp.ConnectionTimeoutError:
            message = (
                f"The replica did not accept the connection within {limits.connect_timeout:g} s."
            )
            raise Unanswered(Fault.CONNECT, refusals.upstream(message, status=504)) from None
        except aiohttp.ClientConnectorError:
            message = "The replica could not be reached."
            raise Unanswered(Fault.CONNECT, refusals.upstream(message)) from None
        except aiohttp.ClientError:
            message = "The replica closed the connection before it answered."
            raise Unanswered(Fault.RESET, refusals.upstream(message)) from None
        except TimeoutError:
            message = f"The replica did not start its answer within {limits.head_timeout:g} s."
            raise Unanswered(Fault.TIMEOUT, refusals.upstream(message, status=504)) from None
        if reply.status in _AGAIN:
            reply.close()
            raise Unanswered(Fault.STATUS, _unavailable(reply))
        if reply.status == 401:
            # NB: the engine rejects the router's token; the client's key is valid.
            reply.close()
            raise refusals.upstream("The replica does not accept the router's token.")
        return reply

    @contextlib.asynccontextmanager
    async def get(
        self, endpoint: Endpoint, path: str, *, headers: Mapping[str, str], seconds: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Get a path of the engine's API within this time; exceptions as of aiohttp, and Unanswered."""
        async with self._session.get(
            endpoint.url(path),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=seconds),
            allow_redirects=False,
            ssl=self._tls(endpoint),
            server_hostname=self._engines_host,
        ) as reply:
            yield reply

    async def _send(
        self,
        endpoint: Endpoint,
        request: Request,
        body: bytes,
        headers: CIMultiDict[str],
        limits: ServiceLimits,
    ) -> aiohttp.ClientResponse:
        seconds = limits.connect_timeout
        timeout = self._timeouts.get(seconds)
        if timeout is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=seconds)
            self._timeouts[seconds] = timeout
        if request.response_id is None:
            url = endpoint.url(request.path)
        else:
            url = endpoint.address.url(request.path, request.query)
        data: Any = io.BytesIO(body) if len(body) > _AT_ONCE_BYTES else body
        if request.rest is not None:
            data = request.rest.after(body)
        return await self._session.request(
            request.method,
            url,
            data=data,
            headers=headers,
            # NB: a replica that refuses the request by its headers gets nothing of the body, so another one can get it.
            expect100=request.rest is not None,
            timeout=timeout,
            allow_redirects=False,
            ssl=self._tls(endpoint),
            server_hostname=self._engines_host,
        )

    def _tls(self, endpoint: Endpoint) -> ssl.SSLContext | bool:
        """Return the context of a connection with TLS; Unanswered if the router trusts no authority."""
        if endpoint.address.scheme == "http" or self._authorities is None:
            return True
        context = self._authorities.context()
        if context is None:
            message = "The router has no certificate authority for replicas with TLS."
            raise Unanswered(Fault.CONNECT, refusals.upstream(message))
        return context


def _unavailable(reply: aiohttp.ClientResponse) -> Refusal:
    refusal = refusals.upstream(
        "No replica could take the request. Retry later.", status=reply.status
    )
    refusal.headers = {"retry-after": reply.headers.get("retry-after", "1")}
    return refusal
