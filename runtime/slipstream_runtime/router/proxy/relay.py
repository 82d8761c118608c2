"""Relay of an engine's answer to the client: whole, or chunk by chunk without storing it.

A client can always tell a broken answer from a complete one.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from slipstream_runtime.router.cache.sharing import ResponseCopy
from slipstream_runtime.router.config import ServiceLimits
from slipstream_runtime.router.messages import refusals
from slipstream_runtime.router.messages.headers import VECTORS, client_headers
from slipstream_runtime.router.messages.request import Request
from slipstream_runtime.router.messages.usage import EndlessEventError, EventFilter, Usage
from slipstream_runtime.router.metrics import ServiceMetrics
from slipstream_runtime.router.proxy.upstream import Fault, Unanswered
from slipstream_runtime.router.recording.flight import Flight
from slipstream_runtime.web import openai
from slipstream_runtime.web.refusal import Refusal

_WHOLE: Final = 1024 * 1024
"""Bytes of an answer that is read before any is sent; if it breaks off until then, the client gets an error."""
_BUFFERED_BYTES: Final = 4 * 1024 * 1024
"""Most bytes of a buffered answer."""
_DONE: Final = b"[DONE]"
_ENDS: Final = {
    openai.RESPONSES: re.compile(rb"event: ?response\.(completed|incomplete|failed|cancelled)"),
    openai.MESSAGES: re.compile(rb"event: ?message_stop"),
}
"""Path -> last event of its streams, where it is not [DONE]."""
_AT_ONCE: Final = 64 * 1024
"""Bytes that the socket takes at once, even if the client does not read."""
_TAIL: Final = 64
"""Bytes before the last chunk that are searched for the end of a stream."""
_EVENTS: Final = "text/event-stream"
_LAST_WORDS_SECONDS: Final = 1.0
"""Seconds to send the error event of a broken stream."""
_HELD_UP_SECONDS: Final = 0.002
"""Seconds from which the write of a chunk counts as waiting for the client; the router's own work takes less."""
_SLACK: Final = 0.05
"""Share by which the idle timeout may be exceeded, so that the timer is not reset for every token."""
_CUT: Final = (aiohttp.ClientError, OSError)

Response = TypeVar("Response", bound=web.StreamResponse)


class BrokenAnswer(Exception):  # noqa: N818 (not an error of this program)
    """Raised if the answer broke off after the client got a part of it; `died` if the engine broke the connection."""

    def __init__(self, *, died: bool = False) -> None:
        super().__init__()
        self.died = died


class Relay:
    """Relay of one answer."""

    def __init__(
        self,
        http_request: web.BaseRequest,
        reply: aiohttp.ClientResponse,
        *,
        request: Request,
        metrics: ServiceMetrics,
        limits: ServiceLimits,
        clock: Callable[[], float],
        arrived: float,
        leaving: bool,
        more_headers: Mapping[str, str],
        started: Callable[[], None],
        flight: Flight,
        copy: ResponseCopy | None = None,
        buffered: bool = False,
    ) -> None:
        self._http_request = http_request
        self._reply = reply
        self._request = request
        self._metrics = metrics
        self._idle = limits.idle_timeout
        self._head = limits.head_timeout
        self._clock = clock
        self._arrived = arrived
        self._leaving = leaving
        self._more_headers = more_headers
        self._started = started
        self._flight = flight
        self._copy = copy
        self._buffered = buffered
        self.usage = Usage()
        self.response: web.StreamResponse | None = None

    async def run(self) -> web.StreamResponse:
        """Return the client's response; Refusal before its first byte, BrokenAnswer after it.

        A buffered answer is returned whole, and not sent.
        """
        reply = self._reply
        if (described := reply.headers.get(VECTORS)) is not None:
            self.usage.read_header(described)
        if self._buffered:
            body = await self._read_start(most=_BUFFERED_BYTES)
            if not reply.content.at_eof():
                raise refusals.upstream("The answer is too long for a cascade's confidence check.")
            return self._whole(body)
        if reply.headers.get("content-type", "").startswith(_EVENTS):
            return await self._events()
        length = reply.content_length
        if length is not None and length <= _WHOLE:
            body = await self._read_whole()
        else:
            body = await self._read_start(most=_WHOLE)
            if not reply.content.at_eof():
                self._started()
                return await self._flow(body)
        if len(body) <= _AT_ONCE:
            return self._whole(body)
        self._started()
        return await self._flow(body)

    def _whole(self, body: bytes) -> web.Response:
        self._started()
        self.usage.read(body)
        if self._copy is not None:
            self._copy.add(body)
        status, headers = self._reply.status, self._headers()
        return self._track(web.Response(status=status, headers=headers, body=body))

    async def _read_whole(self) -> bytes:
        try:
            return await self._reply.content.read()
        except _CUT:
            raise _broken_off() from None

    async def _read_start(self, *, most: int) -> bytes:
        content, parts, size = self._reply.content, [], 0
        try:
            while size <= most and (part := await content.readany()):
                parts.append(part)
                size += len(part)
        except _CUT:
            raise _broken_off() from None
        return b"".join(parts)

    async def _flow(self, start: bytes) -> web.StreamResponse:
        """Relay an answer that is too long to buffer; if it breaks off, close the client's connection."""
        response = self._begin()
        response.content_length = self._reply.content_length
        await response.prepare(self._http_request)
        chunk: bytes | None = start
        try:
            async with asyncio.timeout(self._idle) as limit:
                while chunk:
                    if self._copy is not None:
                        self._copy.add(chunk)
                    self.usage.add_part(chunk)
                    began = self._clock()
                    try:
                        await response.write(chunk)
                    finally:
                        now = self._clock()
                        self._flight.client += now - began
                    limit.reschedule(now + self._idle)
                    chunk = await self._next()
        except (TimeoutError, _Cut) as error:
            self.abort()
            raise BrokenAnswer(died=isinstance(error, _Cut)) from None
        self.usage.finish()
        return response

    async def _events(self) -> web.StreamResponse:
        """Relay a stream of events, chunk by chunk."""
        response = self._begin()
        clock, idle = self._clock, self._idle
        events = EventFilter(hide_usage=self._request.hide_usage)
        stored = self._request.response_id is not None
        last_event = _ENDS.get(openai.RESPONSES if stored else self._request.path)
        metrics, usage = self._metrics, self.usage
        tail, ended, died, last, prolong = b"", False, False, 0.0, 0.0
        try:
            # NB: the first event may wait in the engine's queue, so it has the timeout of the headers.
            async with asyncio.timeout(self._head) as limit:
                while chunk := await self._next():
                    now = clock()
                    if now >= prolong:
                        limit.reschedule(now + idle * (1 + _SLACK))
                        prolong = now + idle * _SLACK
                    if last:
                        if not stored:
                            metrics.itl.observe(now - last)
                    else:
                        self._started()
                        self._flight.streamed = True
                        if not stored:
                            metrics.ttft.observe(now - self._arrived)
                        await response.prepare(self._http_request)
                    last = now
                    usage.add(chunk)
                    if self._copy is not None:
                        self._copy.add(chunk)
                    if last_event is not None and not ended:
                        ended = last_event.search(tail + chunk) is not None
                    tail = chunk[-_TAIL:] if len(chunk) >= _TAIL else (tail + chunk)[-_TAIL:]
                    if passed := events.complete(chunk):
                        try:
                            await response.write(passed)
                        finally:
                            if (spent := clock() - now) > _HELD_UP_SECONDS:
                                self._flight.client += spent
        except TimeoutError:
            if not last:
                refusal = refusals.upstream(
                    "The replica did not start its answer in time.", status=504
                )
                raise Unanswered(Fault.TIMEOUT, refusal) from None
            await self.break_off(
                refusals.upstream(f"The stream was idle for {idle:g} s.", status=504)
            )
            raise BrokenAnswer from None
        except EndlessEventError:
            await self.break_off(refusals.upstream("An event of the stream has no end."))
            raise BrokenAnswer from None
        except _Cut:
            ended, tail, died = False, b"", True
        if not (_DONE in tail if last_event is None else ended):
            if not last:
                raise Unanswered(Fault.RESET, _broken_off())
            await self.break_off(_broken_off())
            raise BrokenAnswer(died=died)
        if rest := events.rest():
            await response.write(rest)
        usage.finish()
        return response

    async def break_off(self, refusal: Refusal) -> None:
        """End a broken stream with an error event, without [DONE]; close the connection of any other answer."""
        response = self.response
        if response is None or not response.prepared:
            raise refusal
        if not response.headers["content-type"].startswith(_EVENTS):
            self.abort()
            return
        # NB: the connection stays open: its headers did not announce a close, so the client may reuse it.
        try:
            async with asyncio.timeout(_LAST_WORDS_SECONDS):
                await response.write(refusal.event(self._request.path))
                await response.write_eof()
        except (TimeoutError, ConnectionError):
            self.abort()

    def abort(self) -> None:
        """Close the client's connection: the only way to show that an answer is incomplete."""
        if self._http_request.transport is not None:
            self._http_request.transport.abort()

    def _begin(self) -> web.StreamResponse:
        reply = self._reply
        return self._track(web.StreamResponse(status=reply.status, headers=self._headers()))

    def _headers(self) -> CIMultiDict[str]:
        headers = client_headers(self._reply.headers)
        headers.update(self._more_headers)
        if self._copy is not None:
            headers["x-cache"] = "miss"
        return headers

    def _track(self, response: Response) -> Response:
        self.response = response
        if self._leaving:
            response.force_close()
        return response

    async def _next(self) -> bytes:
        """Return the next chunk; empty at the end."""
        try:
            return await self._reply.content.readany()
        except _CUT:
            raise _Cut from None


class _Cut(Exception):  # noqa: N818
    """Raised if the engine's connection broke."""


def _broken_off() -> Refusal:
    return refusals.upstream("The replica closed the connection during its answer.")
