"""Reading of requests' bodies: in time, within the limits of their kind, and within the memory of the router."""

import asyncio
import contextlib
from collections.abc import Generator, Iterable, Iterator
from typing import Final

from aiohttp import web

from slipstream_runtime.router.messages import structure as structures
from slipstream_runtime.router.messages import uploads
from slipstream_runtime.router.messages.body_memory import BodyMemory, Lease
from slipstream_runtime.router.messages.request import (
    Request,
    parse_large,
    parse_request,
    uploaded_request,
)
from slipstream_runtime.router.messages.structure import Structure
from slipstream_runtime.web import asgi, body, openai
from slipstream_runtime.web.openai import Reason
from slipstream_runtime.web.refusal import CLOSE, Refusal, body_late, malformed
from slipstream_runtime.web.turns import LARGE, Turns

BODY_SECONDS: Final = 60.0
"""Seconds for the client to send its body, unless a service allows more."""

_COPIES_OF_HEADERS: Final = 3
"""Times that a request's headers are in memory: as they came, as pairs, and as a dictionary."""
_PART: Final = 128 * 1024
_CHUNKS: Final = 1024
"""Bytes and chunks of a body that are put together."""


class Bodies:
    """Reader of the bodies of all requests of one router."""

    def __init__(self, memory: BodyMemory, *, seconds: float = BODY_SECONDS) -> None:
        self._memory = memory
        self.seconds = seconds
        self.limit = asgi.MEDIA_LIMIT
        """Most bytes of a body with media."""
        self._turns = Turns()

    async def request(
        self,
        http_request: web.BaseRequest,
        *,
        path: str,
        seconds: float,
        upload_size: int,
        client: str,
        head: int,
    ) -> Request:
        """Return the request in the body, which holds memory until its `lease` is released.

        `seconds` and `upload_size` are the largest limits of the services, since only the body names one of them.
        `client` shares its part of the memory; `head` are the bytes of the headers.
        """
        uploads_file = openai.FORMS[path].uploads
        deadline = asyncio.get_running_loop().time() + seconds
        await self._check(
            http_request,
            kind=body.MULTIPART if uploads_file else body.JSON,
            limit=upload_size if uploads_file else self.limit,
        )
        lease = self._memory.lease(client, beside=_COPIES_OF_HEADERS * head)
        try:
            if uploads_file:
                lease.grow(0)
                async with asyncio.timeout_at(deadline):
                    found = await self._upload(
                        http_request,
                        lease,
                        path=path,
                        most=upload_size,
                        seconds=seconds,
                        deadline=deadline,
                    )
            elif http_request.content.is_eof():
                # NB: most bodies come with the headers, and need no timer.
                found = await self._whole(http_request.content.read_nowait(), lease, path=path)
            else:
                async with asyncio.timeout_at(deadline):
                    raw, structure = await self._read(http_request, lease)
                found = await self._parse(raw, structure, lease, path=path)
        except TimeoutError:
            lease.release()
            raise body_late(seconds) from None
        except (web.RequestPayloadError, ValueError):
            lease.release()
            raise malformed("The request body is not valid HTTP.") from None
        except BaseException:
            lease.release()
            raise
        found.lease = lease
        return found

    @contextlib.contextmanager
    def headers(self, client: str, *, head: int) -> Iterator[None]:
        """Hold the memory of a request without a body; Refusal if there is too little."""
        lease = self._memory.lease(client, beside=_COPIES_OF_HEADERS * head)
        lease.grow(0)
        try:
            yield
        finally:
            lease.release()

    async def _check(self, http_request: web.BaseRequest, *, kind: str, limit: int) -> None:
        headers = http_request.headers
        if headers.get("content-type") != kind or (http_request.content_length or 0) > limit:
            body.check_head(
                (
                    (b"content-type", headers.get("content-type", "").encode("latin-1", "replace")),
                    (b"content-length", headers.get("content-length", "").encode()),
                ),
                limit=limit,
                kind=kind,
            )
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise Refusal(
                415,
                "content-encoding: compressed bodies are not supported. Send the body uncompressed.",
                reason=Reason.MALFORMED,
                headers=CLOSE,
            )
        expected = headers.get("expect")
        if expected is not None:
            if expected.lower() != "100-continue":
                raise Refusal(417, "expect: only 100-continue is supported.", headers=CLOSE)
            await http_request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            http_request.writer.output_size = 0

    async def _read(
        self, http_request: web.BaseRequest, lease: Lease
    ) -> tuple[bytes, Structure | None]:
        """Return the whole body, once there is memory for its objects; and what a large one was counted as."""
        content = http_request.content
        length = http_request.content_length or 0
        self._grow(lease, length, limit=self.limit)
        parts: list[bytes] = []
        fresh: list[bytes] = []
        size = joined = 0
        structure = None
        while chunk := await content.readany():
            size += len(chunk)
            self._grow(lease, size, limit=self.limit)
            fresh.append(chunk)
            # NB: a client may send a byte at a time, and each chunk has a header of 33 bytes.
            if size - joined >= _PART or len(fresh) == _CHUNKS:
                parts.append(b"".join(fresh))
                fresh.clear()
                joined = size
                if max(length, size) >= LARGE:
                    added, structure = (
                        (parts[-1:], structure) if structure else (parts, Structure())
                    )
                    # NB: a body that can't be used is refused before the rest of it came.
                    await self._turns.take(_add(structure, added))
                    lease.grow(_charged(max(length, size), structure.size))
        parts += fresh
        if structure is not None:
            await self._turns.take(_add(structure, fresh))
            lease.grow(_charged(size, structure.size))
        return parts[0] if len(parts) == 1 else b"".join(parts), structure

    async def _upload(
        self,
        http_request: web.BaseRequest,
        lease: Lease,
        *,
        path: str,
        most: int,
        seconds: float,
        deadline: float,
    ) -> Request:
        """Return the request of an upload, of which the first part was read."""
        upload = uploads.Upload(http_request.headers, http_request.content, most=most)
        whole = await upload.read_ahead(
            grown=lambda size: self._grow(lease, _upload_size(size), limit=_upload_size(most))
        )
        request = uploaded_request(upload, path=path)
        if not whole:
            left = max(0.0, deadline - asyncio.get_running_loop().time())
            request.rest = uploads.Rest(upload, seconds=seconds, left=left)
        return request

    async def _whole(self, raw: bytes, lease: Lease, *, path: str) -> Request:
        """Return the request in a body that came with the headers."""
        if len(raw) > self.limit:
            raise body.too_large(limit=self.limit)
        structure = None
        if len(raw) >= LARGE:
            structure = Structure()
            await self._turns.take(_add(structure, (raw,)))
            lease.grow(_charged(len(raw), structure.size))
        return await self._parse(raw, structure, lease, path=path)

    async def _parse(
        self, raw: bytes, structure: Structure | None, lease: Lease, *, path: str
    ) -> Request:
        """Return the request in a JSON body, once there is memory for its objects."""
        if structure is not None:
            return await self._turns.take(parse_large(raw, structure, path=path))
        marks = structures.marks(raw)
        lease.grow(_charged(len(raw), structures.small_size(raw, marks)))
        return parse_request(raw, path=path, openings=structures.openings(marks))

    def _grow(self, lease: Lease, size: int, *, limit: int) -> None:
        if size > limit:
            raise body.too_large(limit=limit)
        lease.grow(size)


def _add(structure: Structure, parts: Iterable[bytes]) -> Generator[None, None, None]:
    for part in parts:
        structure.add(part)
        yield


def _charged(size: int, parsed: int) -> int:
    """Return the bytes that a body counts: a half of what it and its objects take, and never less than its own."""
    return max(size, (size + parsed) // 2)


def _upload_size(size: int) -> int:
    """Return the bytes that an upload counts: once it is read ahead, it is there twice for a moment."""
    return size * 3 // 2
