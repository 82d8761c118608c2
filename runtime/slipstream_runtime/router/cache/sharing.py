"""Shared answers: from the response cache, or from one request to an engine for all equal requests."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from aiohttp import web

from slipstream_runtime.router.cache import responses
from slipstream_runtime.router.cache.responses import Answer, Hit, ResponseCache, Role
from slipstream_runtime.router.messages import streams
from slipstream_runtime.router.messages.headers import SERVER
from slipstream_runtime.router.messages.request import Request
from slipstream_runtime.web import openai
from slipstream_runtime.web.refusal import Refusal, answer_late

PATHS: Final = (openai.CHAT, openai.COMPLETIONS)
"""Paths whose answers `streams` can convert between whole and streamed."""
STREAM: Final = "text/event-stream; charset=utf-8"
"""The content type of a stream."""

SharedOutcome = Answer | Refusal | None
"""Outcome for a follower; None: it leads now."""
AnswerFuture = asyncio.Future[SharedOutcome]
Run = Callable[["ResponseCopy"], Awaitable[web.StreamResponse]]


class ResponseCopy:
    """Copy of an answer that is relayed, of at most `most` bytes."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._parts: list[bytes] = []
        self._size = 0
        self._complete = False

    def add(self, chunk: bytes) -> None:
        """Add a chunk, as the engine sent it."""
        self._size += len(chunk)
        if self._size <= self._most:
            self._parts.append(chunk)
        else:
            self._parts.clear()

    def complete(self) -> None:
        """Mark the answer as complete."""
        self._complete = True

    def answer(self, status: int, content_type: str) -> Answer | None:
        """Return the whole answer; None if it broke off, is too large, incomplete or not final."""
        if not self._complete or self._size > self._most:
            return None
        body: bytes | None = b"".join(self._parts)
        if content_type.startswith("text/event-stream"):
            body, content_type = _assembled(body or b""), "application/json"
        if body is None or (status < 300 and not streams.complete(body)):
            return None
        answer = Answer(status, content_type, body)
        return answer if answer.final else None


def key(
    request: Request, headers: Mapping[str, str], *, revision: str, tenant: str
) -> bytes | None:
    """Return the cache key of the request; None if its answer can't be shared."""
    if request.path not in PATHS:
        return None
    if not responses.cacheable(
        request.content,
        opt_in=headers.get(responses.OPT_IN),
        cache_control=headers.get("cache-control"),
    ):
        return None
    return responses.key(request.content, path=request.path, revision=revision, tenant=tenant)


async def share(
    cache: ResponseCache[AnswerFuture], key: bytes, request: Request, *, run: Run, seconds: float
) -> web.StreamResponse:
    """Return the response from the cache, from the leading request, or from `run`.

    A Refusal is shared, too. If the leader disconnects or its answer breaks off, the first follower
    leads.
    """
    future: AnswerFuture = asyncio.get_running_loop().create_future()
    found = cache.look_up(key, future)
    if isinstance(found, Hit):
        return _response(found, request)
    try:
        if found is Role.FOLLOW:
            try:
                async with asyncio.timeout(seconds):
                    outcome = await future
            except TimeoutError:
                raise answer_late(seconds) from None
            if isinstance(outcome, Refusal):
                raise outcome
            if outcome is not None:
                return _response(Hit(outcome, 0.0), request)
        return await _lead(cache, key, request, run)
    finally:
        following = cache.leave(key, future)
        if following is not None:
            _notify([following], None)


async def _lead(
    cache: ResponseCache[AnswerFuture], key: bytes, request: Request, run: Run
) -> web.StreamResponse:
    request.request_usage()
    copy = ResponseCopy(most=cache.size)
    try:
        response = await run(copy)
    except Refusal as refusal:
        _notify(cache.store(key, Answer(refusal.status, "", b"")), refusal)
        raise
    answer = copy.answer(response.status, response.headers.get("content-type", ""))
    if answer is not None:
        _notify(cache.store(key, answer), answer)
    return response


def _notify(futures: list[AnswerFuture], outcome: SharedOutcome) -> None:
    for future in futures:
        if not future.done():  # its client disconnected, and its task has not run since
            future.set_result(outcome)


def _response(hit: Hit, request: Request) -> web.Response:
    answer = hit.answer
    body, kind = answer.body, answer.content_type
    if request.stream and answer.status < 300:
        body, kind = b"".join(streams.replayed(body, usage=request.wants_usage)), STREAM
    headers = {
        "content-type": kind,
        "server": SERVER,
        "x-cache": "hit",
        "age": str(int(hit.age)),
    }
    return web.Response(status=answer.status, body=body, headers=headers)


def _assembled(body: bytes) -> bytes | None:
    try:
        return streams.assembled(part + b"\n\n" for part in body.split(b"\n\n") if part)
    except (KeyError, TypeError, ValueError):
        return None  # the engine has its own form of chunks
