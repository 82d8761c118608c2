"""Sends requests to engines, and tells apart what may be sent again from what may not."""

import asyncio
import enum
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

import aiohttp
from multidict import CIMultiDict

from slipstream_runtime import contract
from slipstream_runtime.router.balancing.endpoints import Endpoint
from slipstream_runtime.router.config import Limits
from slipstream_runtime.router.messages import refusals
from slipstream_runtime.web.folder import Folder
from slipstream_runtime.web.refusal import Refusal

_AGAIN: Final = frozenset({502, 503})
"""Status codes by which an engine says that it did not work on the request."""
_KEEP_SECONDS: Final = 30.0
"""An idle connection; shorter than engines keep theirs, or a request would meet a closing socket."""


class Fault(enum.StrEnum):
    """Why a request may be sent again: values of the label `reason`."""

    CONNECT = "connect"
    RESET = "reset"
    TIMEOUT = "timeout"
    STATUS = "status"


class Unanswered(Exception):  # noqa: N818 (not always an error)
    """The engine did not answer, and the client has got no byte; the refusal is for when nobody else answers."""

    def __init__(self, fault: Fault, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.fault = fault
        self.refusal = refusal


class Token:
    """The router's own token, as the file has it now."""

    def __init__(self, folder: Path, *, clock: Callable[[], float]) -> None:
        self._folder = Folder(folder, clock=clock)
        self._value: str | None = None

    def value(self) -> str | None:
        """None if there is none, which engines without one do not mind."""
        entries = self._folder.changed()
        if entries is not None:
            self._value = (
                entries.get(contract.ROUTER_TOKEN_KEY, b"").decode("latin-1").strip() or None
            )
        return self._value


class Upstream:
    """One pool of connections to all engines; a context manager."""

    def __init__(self) -> None:
        connector = aiohttp.TCPConnector(
            limit=0, keepalive_timeout=_KEEP_SECONDS, use_dns_cache=False, force_close=False
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("accept", "accept-encoding", "user-agent"),
            read_bufsize=2**16,
        )
        self._timeouts: dict[float, aiohttp.ClientTimeout] = {}

    @property
    def session(self) -> aiohttp.ClientSession:
        """For what is not a client's request."""
        return self._session

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def send(
        self,
        endpoint: Endpoint,
        *,
        path: str,
        body: bytes,
        headers: CIMultiDict[str],
        limits: Limits,
    ) -> aiohttp.ClientResponse:
        """The head of the engine's answer; Unanswered if there is none, or one that says `not me`.

        Refusal if the engine takes the router for a stranger.
        """
        try:
            if limits.head_timeout is None:
                reply = await self._post(endpoint, path, body, headers, limits)
            else:
                async with asyncio.timeout(limits.head_timeout):
                    reply = await self._post(endpoint, path, body, headers, limits)
        except aiohttp.ConnectionTimeoutError:
            message = f"A replica did not accept the connection within {limits.connect_timeout:g} s"
            raise Unanswered(Fault.CONNECT, refusals.upstream(message, status=504)) from None
        except aiohttp.ClientConnectorError:
            message = "A replica could not be reached"
            raise Unanswered(Fault.CONNECT, refusals.upstream(message)) from None
        except aiohttp.ClientError:
            message = "A replica closed the connection before it answered"
            raise Unanswered(Fault.RESET, refusals.upstream(message)) from None
        except TimeoutError:
            message = f"A replica did not begin its answer within {limits.head_timeout:g} s"
            raise Unanswered(Fault.TIMEOUT, refusals.upstream(message, status=504)) from None
        if reply.status in _AGAIN:
            reply.close()
            raise Unanswered(Fault.STATUS, _not_me(reply))
        if reply.status == 401:
            # NB: it is the router's token that is wrong there; the client's key was right.
            reply.close()
            raise refusals.upstream("A replica does not accept this router's token")
        return reply

    async def _post(
        self, endpoint: Endpoint, path: str, body: bytes, headers: CIMultiDict[str], limits: Limits
    ) -> aiohttp.ClientResponse:
        seconds = limits.connect_timeout
        timeout = self._timeouts.get(seconds)
        if timeout is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=seconds)
            self._timeouts[seconds] = timeout
        return await self._session.post(
            endpoint.url(path), data=body, headers=headers, timeout=timeout, allow_redirects=False
        )


def _not_me(reply: aiohttp.ClientResponse) -> Refusal:
    refusal = refusals.upstream("No replica could take the request; try again", status=reply.status)
    refusal.headers = {"retry-after": reply.headers.get("retry-after", "1")}
    return refusal
