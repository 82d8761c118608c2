"""Shared answers: from the response cache, or from one request to an engine for all equal requests.

An answer is shared at the pace of its engine. If its client reads slowly and so holds up the engine, the other
requests go to engines themselves.
"""

import asyncio
import enum
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from aiohttp import web

from slipstream_runtime.router.cache import responses
from slipstream_runtime.router.cache.memory import CacheMemory
from slipstream_runtime.router.cache.responses import Answer, Hit, ResponseCache, Role
from slipstream_runtime.router.messages import streams
from slipstream_runtime.router.messages.headers import SERVER
from slipstream_runtime.router.messages.request import Request
from slipstream_runtime.web import openai
from slipstream_runtime.web.openai import Reason
from slipstream_runtime.web.refusal import Refusal, answer_late

PATHS: Final = (openai.CHAT, openai.COMPLETIONS)
"""Paths whose answers `streams` can convert between whole and streamed."""
STREAM: Final = "text/event-stream; charset=utf-8"
"""The content type of a stream."""

ANSWER_BYTES: Final = 8 * 1024 * 1024
"""Most bytes of an answer that is shared, as the engine sends it: about 30,000 events of a token."""


class Alone(enum.Enum):
    """Outcome of a follower that gets no answer of another request."""

    LEADS = "leads"
    """It leads the other followers now."""
    APART = "apart"
    """It is sent to an engine for itself."""


SharedOutcome = Answer | Refusal | Alone
"""Outcome for a follower."""
AnswerFuture = asyncio.Future[SharedOutcome]
Run = Callable[["ResponseCopy | None"], Awaitable[web.StreamResponse]]


class ResponseCopy:
    """Copy of an answer that is relayed, of at most `most` bytes and as far as there is memory."""

    def __init__(self, *, most: int, memory: CacheMemory, parted: Callable[[], None]) -> None:
        self._most = most
        self._memory = memory
        self._parted = parted
        self._parts: list[bytes] = []
        self._dropped = False
        self._size = 0
        self._complete = False

    def add(self, chunk: bytes) -> None:
        """Add a chunk, as the engine sent it."""
        size = len(chunk)
        if self._dropped:
            return
        if self._size + size <= self._most and self._memory.try_take(size):
            self._size += size
            self._parts.append(chunk)
        else:
            self.drop()

    def drop(self) -> None:
        """Share the answer no longer, because it is too large, or its client holds up the engine."""
        if not self._dropped:
            self._dropped = True
            self.release()
            self._parted()

    def release(self) -> None:
        """Give the memory back."""
        self._memory.give_back(self._size)
        self._size = 0
        self._parts.clear()

    def complete(self) -> None:
        """Mark the answer as complete."""
        self._complete = True

    def answer(self, status: int, content_type: str) -> Answer | None:
        """Return the whole answer; None if it broke off, is too large, incomplete or not final."""
        if not self._complete or self._dropped:
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

    The refusal of an engine is shared, too. If the leader disconnects or is refused by the router, or its answer breaks
    off, the first follower leads. If the answer can't be shared, all followers are sent to engines.
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
            if isinstance(outcome, Answer):
                return _response(Hit(outcome, 0.0), request)
            if outcome is Alone.APART:
                return await run(None)
        return await _lead(cache, key, request, run, future)
    finally:
        following = cache.leave(key, future)
        if following is not None:
            _notify([following], Alone.LEADS)


async def _lead(
    cache: ResponseCache[AnswerFuture],
    key: bytes,
    request: Request,
    run: Run,
    future: AnswerFuture,
) -> web.StreamResponse:
    request.request_usage()
    copy = ResponseCopy(
        most=min(cache.size, ANSWER_BYTES),
        memory=cache.memory,
        parted=lambda: _notify(cache.part(key, future), Alone.APART),
    )
    try:
        response = await run(copy)
        answer = copy.answer(response.status, response.headers.get("content-type", ""))
    except Refusal as refusal:
        # NB: other refusals are of this client, such as one for its tokens or its turn.
        if refusal.reason is Reason.UPSTREAM:
            _notify(cache.part(key, future), refusal)
        raise
    finally:
        copy.release()
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
