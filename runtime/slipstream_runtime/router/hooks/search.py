"""Requests to search services."""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from typing import Final

import aiohttp
from yarl import URL

from slipstream_runtime.router import config
from slipstream_runtime.router.hooks import passages
from slipstream_runtime.router.hooks.failures import Cause, HookError
from slipstream_runtime.router.hooks.passages import Passage
from slipstream_runtime.web import answers
from slipstream_runtime.web.certificates import Authorities

ANSWER_BYTES: Final = 1024 * 1024
"""Bytes of a search's answer: 50 passages of 20 KB."""
_IN_CLUSTER: Final = (".svc", ".svc.cluster.local")

ReadKey = Callable[[config.SecretEntry], str | None]
"""Returns the content of an entry of a Secret; None if it is not known."""


class Search:
    """Client of search services. It verifies certificates and follows no redirect."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        read_key: ReadKey,
        authorities: Authorities | None = None,
    ) -> None:
        self._session = session
        self._read_key = read_key
        self._authorities = authorities

    async def passages(self, settings: config.Retrieve, question: str) -> Sequence[Passage]:
        """Return the passages for the question, the best first; HookError if there are none to be had."""
        headers = {"content-type": "application/json", "accept": "application/json"}
        if settings.key is not None:
            key = self._read_key(settings.key)
            if key is None:
                raise HookError(Cause.NO_KEY)
            headers["authorization"] = f"Bearer {key}"
        body = passages.query(question, most=settings.top_k)
        try:
            async with asyncio.timeout(settings.timeout):
                found = await self._answer(URL(settings.url, encoded=True), body, headers)
            return passages.parse(found, most=settings.top_k)
        except TimeoutError:
            raise HookError(Cause.TIMEOUT) from None
        except aiohttp.ClientError:
            raise HookError(Cause.UNREACHABLE) from None
        except ValueError:
            raise HookError(Cause.INVALID) from None

    async def _answer(self, url: URL, body: bytes, headers: dict[str, str]) -> bytes:
        """Return the answer; send the search again if a kept connection closed before it."""
        try:
            return await self._post(url, body, headers)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            return await self._post(url, body, headers)

    async def _post(self, url: URL, body: bytes, headers: dict[str, str]) -> bytes:
        async with self._session.post(
            url, data=body, headers=headers, allow_redirects=False, ssl=self._tls(url)
        ) as reply:
            if reply.status != 200:
                raise HookError(Cause.STATUS)
            return await answers.read(reply, most=ANSWER_BYTES)

    def _tls(self, url: URL) -> ssl.SSLContext | bool:
        """Return the context of the connection: Services of the cluster have certificates of the engines' authority."""
        if self._authorities is None or not (url.host or "").endswith(_IN_CLUSTER):
            return True
        return self._authorities.context() or True
