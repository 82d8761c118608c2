"""Uploads: bodies of `multipart/form-data` with text fields and files.

The body is written again from the fields that were read. So the engine can't read another model than the router did.
"""

import asyncio
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

from aiohttp import BodyPartReader, MultipartReader
from aiohttp.streams import StreamReader
from aiohttp.web import RequestPayloadError

from slipstream_runtime.web import body
from slipstream_runtime.web.refusal import Refusal, body_late, body_slow, malformed

AHEAD_BYTES: Final = 1024 * 1024
"""Bytes of an upload that the router reads before it sends any: a smaller upload can be sent again to another replica.
A minute of compressed speech takes about as many."""
PACE_SECONDS: Final = 5.0
"""Seconds of the client's time after which the pace of an upload is checked again."""
PACE_BYTES: Final = 64 * 1024
"""Bytes that an upload must bring in a second while other requests wait for its slot: a sixth of the pace at which the
largest file, of 25 MiB, arrives within the minute that a body may take."""
_KIND_OF_UPLOADS: Final = "multipart/form-data; boundary="
_CHUNK_BYTES: Final = 64 * 1024
_TEXT_BYTES: Final = 1024 * 1024
"""Most bytes of all text fields; vLLM's form parser takes as many of each."""
_FIELDS: Final = 64
"""Most fields of an upload; vLLM has about 30."""
_NAME: Final = re.compile(r"[A-Za-z0-9_.\[\]-]{1,128}")
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_. -]")
_KIND: Final = re.compile(
    r"[A-Za-z0-9.+-]{1,64}/[A-Za-z0-9.+-]{1,64}(; ?[A-Za-z0-9.+-]+=[A-Za-z0-9.+-]+)?"
)


class Upload:
    """Upload of a client, whose fields are read once."""

    def __init__(self, headers: Mapping[str, str], content: StreamReader, *, most: int) -> None:
        self.fields: dict[str, Any] = {}
        """Text fields that were read; of two with one name, the last."""
        self.size = 0
        """Bytes of the fields that were read."""
        self._boundary = secrets.token_hex(16)
        self._most = most
        self._text_size = 0
        self._ahead: list[bytes] = []
        self._parts = self._written(headers, content)

    @property
    def content_type(self) -> str:
        """Return the content type of the body that is written."""
        return _KIND_OF_UPLOADS + self._boundary

    async def read_ahead(self, *, grown: Callable[[int], None]) -> bool:
        """Read until the model is known and `AHEAD_BYTES` are read; return whether that is all of it.

        `grown` is called with the bytes that were read so far. Refusal if the upload is malformed.
        """
        async for part in self._parts:
            self._ahead.append(part)
            grown(self.size)
            if self.size >= AHEAD_BYTES and "model" in self.fields:
                return False
        return True

    def take_ahead(self) -> bytes:
        """Return the first part of the body, as far as it was read. It begins with the model."""
        ahead, self._ahead = self._ahead, []
        return b"".join([_model(self._boundary, self.fields.get("model", "").encode()), *ahead])

    async def next_part(self) -> bytes:
        """Return the next part of the body, or nothing at its end; Refusal if it is malformed or too large."""
        part = await anext(self._parts, b"")
        if self.size > self._most:
            raise body.too_large(limit=self._most)
        return part

    async def _written(
        self, headers: Mapping[str, str], content: StreamReader
    ) -> AsyncIterator[bytes]:
        count = 0
        try:
            async for part in MultipartReader(headers, content):
                count += 1
                if count > _FIELDS or not isinstance(part, BodyPartReader):
                    raise malformed(
                        f"The body has more than {_FIELDS} fields, or a field with fields."
                    )
                name = part.name or ""
                if not _NAME.fullmatch(name):
                    raise malformed("The body has a field without a valid name.")
                if part.filename is None:
                    text = await self._read_text(name, part)
                    if name != "model":
                        yield self._head(f'name="{name}"', None) + text + b"\r\n"
                    continue
                safe = _UNSAFE.sub("_", part.filename)[-128:]
                kind = part.headers.get("content-type")
                yield self._head(f'name="{name}"; filename="{safe}"', kind)
                while chunk := await part.read_chunk(_CHUNK_BYTES):
                    self.size += len(chunk)
                    yield chunk
                yield b"\r\n"
        except (Refusal, RequestPayloadError):
            raise
        except (ValueError, AssertionError, RuntimeError) as error:
            raise malformed(f"The body is not valid multipart/form-data: {error}") from None
        yield f"--{self._boundary}--\r\n".encode()

    async def _read_text(self, name: str, part: BodyPartReader) -> bytes:
        """Read a text field; Refusal if it is no text, or a second model."""
        found = bytearray()
        while chunk := await part.read_chunk(_CHUNK_BYTES):
            found += chunk
            self.size += len(chunk)
            self._text_size += len(chunk)
            if self._text_size > _TEXT_BYTES:
                raise malformed(f"{name}: the text fields have more than {_TEXT_BYTES} bytes.")
        if name == "model" and name in self.fields:
            raise malformed("model: must not be set twice.", param="model")
        try:
            self.fields[name] = found.decode()
        except UnicodeDecodeError:
            raise malformed(f"{name}: is not UTF-8.", param=name) from None
        return bytes(found)

    def _head(self, name: str, kind: str | None) -> bytes:
        head = f"--{self._boundary}\r\ncontent-disposition: form-data; {name}\r\n"
        if kind is not None and _KIND.fullmatch(kind):
            head += f"content-type: {kind}\r\n"
        return f"{head}\r\n".encode()


class Rest:
    """Part of an upload that the client still sends, which the router passes on as it arrives."""

    def __init__(self, upload: Upload, *, seconds: float, left: float) -> None:
        self.started = False
        """Whether a replica got a part of the body, so that no other replica can get all of it."""
        self.finished = False
        """Whether a replica got the whole body."""
        self.refusal: Refusal | None = None
        """Reason for which the body ended before its end, if it was the client's fault."""
        self.crowded: Callable[[], bool] = lambda: False
        """Whether other requests wait for the slot that this upload holds."""
        self._upload = upload
        self._seconds = seconds
        self._left = left
        self._pace = _Pace()

    async def after(self, ahead: bytes) -> AsyncIterator[bytes]:
        """Yield the parts of the whole body, whose first part was read ahead."""
        self.started = True
        try:
            view = memoryview(ahead)
            for start in range(0, len(ahead), _CHUNK_BYTES):
                yield bytes(view[start : start + _CHUNK_BYTES])
            while part := await self._next():
                yield part
            self.finished = True
        except Refusal as refusal:
            self.refusal = refusal
            raise

    async def _next(self) -> bytes:
        """Return the next part. Only the time that the client takes counts, not the replica's."""
        began = time.monotonic()
        limit = asyncio.timeout(self._left)
        self._pace.resume(lambda: self._check(limit))
        try:
            async with limit:
                return await self._upload.next_part()
        except TimeoutError:
            raise body_slow(PACE_BYTES) if self._pace.slow else body_late(self._seconds) from None
        except RequestPayloadError:
            raise malformed("The request body is not valid HTTP.") from None
        finally:
            self._pace.rest()
            self._left = max(0.0, self._left - (time.monotonic() - began))

    def _check(self, limit: asyncio.Timeout) -> None:
        """End the upload if it is too slow and others wait."""
        if self._pace.judge(self._upload.size) and self.crowded():
            self._pace.slow = True
            limit.reschedule(0.0)
            return
        self._pace.resume(lambda: self._check(limit))


class _Pace:
    """Pace of an upload over the time in which the router waits for its client."""

    def __init__(self) -> None:
        self.slow = False
        self._left = PACE_SECONDS
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None

    def resume(self, check: Callable[[], None]) -> None:
        """Count the time from now on, and call `check` at the end of a period."""
        self._timer = asyncio.get_running_loop().call_later(self._left, check)

    def rest(self) -> None:
        """Stop counting."""
        assert self._timer is not None
        self._timer.cancel()
        now = asyncio.get_running_loop().time()
        self._left = max(0.0, self._timer.when() - now)

    def judge(self, size: int) -> bool:
        """Begin a new period; return whether too few bytes came in the last one."""
        brought, self._size, self._left = size - self._size, size, PACE_SECONDS
        return brought < PACE_BYTES * PACE_SECONDS


def without_boundary(raw: bytes, content_type: str) -> bytes:
    """Return the body without its boundary, which is drawn for each upload."""
    return raw.replace(content_type.removeprefix(_KIND_OF_UPLOADS).encode(), b"")


def with_model(raw: bytes, content_type: str, *, old: str, new: str) -> bytes:
    """Return the body of an upload with another model."""
    boundary = content_type.removeprefix(_KIND_OF_UPLOADS)
    first = _model(boundary, old.encode())
    assert raw.startswith(first)
    return b"".join([_model(boundary, new.encode()), memoryview(raw)[len(first) :]])


def _model(boundary: str, name: bytes) -> bytes:
    """Return the field `model`."""
    head = f'--{boundary}\r\ncontent-disposition: form-data; name="model"\r\n\r\n'
    return head.encode() + name + b"\r\n"
