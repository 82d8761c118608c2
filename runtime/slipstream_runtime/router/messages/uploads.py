"""Uploads: bodies of `multipart/form-data` with text fields and files.

The body is written again from the fields that were read. So the engine can't read another model than the router did.
"""

import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final

from aiohttp import BodyPartReader, MultipartReader
from aiohttp.streams import StreamReader

from slipstream_runtime.web.refusal import Refusal, malformed

_KIND_OF_UPLOADS: Final = "multipart/form-data; boundary="
_CHUNK_BYTES: Final = 64 * 1024
_FIELDS: Final = 64
"""Most fields of an upload; vLLM has about 30."""
_NAME: Final = re.compile(r"[A-Za-z0-9_.\[\]-]{1,128}")
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_. -]")
_KIND: Final = re.compile(
    r"[A-Za-z0-9.+-]{1,64}/[A-Za-z0-9.+-]{1,64}(; ?[A-Za-z0-9.+-]+=[A-Za-z0-9.+-]+)?"
)


class Upload:
    """Fields of an upload, and the body that has the same fields."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        """Text fields; of two with one name, the last."""
        self.size = 0
        """Bytes of the files."""
        self._boundary = secrets.token_hex(16)
        self._model = b""
        self._parts: list[bytes] = []

    @property
    def content_type(self) -> str:
        """Return the content type of `body`."""
        return _KIND_OF_UPLOADS + self._boundary

    @property
    def body(self) -> bytes:
        """Return the body, whose first field is the model."""
        return b"".join([self._model, *self._parts, f"--{self._boundary}--\r\n".encode()])

    def add_text(self, name: str, content: bytes) -> None:
        """Add a text field; Refusal if it is no text, or a second model."""
        if name == "model" and name in self.fields:
            raise malformed("model: must not be set twice.", param="model")
        try:
            self.fields[name] = content.decode()
        except UnicodeDecodeError:
            raise malformed(f"{name}: is not UTF-8.", param=name) from None
        if name == "model":
            self._model = _model(self._boundary, content)
        else:
            self._add(f'name="{name}"', None, content)

    def add_file(self, name: str, filename: str, kind: str | None, content: bytes) -> None:
        """Add a file."""
        self.size += len(content)
        safe = _UNSAFE.sub("_", filename)[-128:]
        self._add(f'name="{name}"; filename="{safe}"', kind, content)

    def _add(self, name: str, kind: str | None, content: bytes) -> None:
        head = f"--{self._boundary}\r\ncontent-disposition: form-data; {name}\r\n"
        if kind is not None and _KIND.fullmatch(kind):
            head += f"content-type: {kind}\r\n"
        self._parts += [f"{head}\r\n".encode(), content, b"\r\n"]


def with_model(body: bytes, content_type: str, *, old: str, new: str) -> bytes:
    """Return the body of an upload with another model."""
    boundary = content_type.removeprefix(_KIND_OF_UPLOADS)
    first = _model(boundary, old.encode())
    assert body.startswith(first)
    return b"".join([_model(boundary, new.encode()), memoryview(body)[len(first) :]])


def _model(boundary: str, name: bytes) -> bytes:
    """Return the field `model`."""
    head = f'--{boundary}\r\ncontent-disposition: form-data; name="model"\r\n\r\n'
    return head.encode() + name + b"\r\n"


async def read(
    headers: Mapping[str, str], content: StreamReader, *, grown: Callable[[int], None]
) -> Upload:
    """Return the upload in the body; Refusal if it is malformed. `grown` is called with the bytes read so far."""
    upload, count, size = Upload(), 0, 0
    try:
        async for part in MultipartReader(headers, content):
            count += 1
            if count > _FIELDS or not isinstance(part, BodyPartReader):
                raise malformed(f"The body has more than {_FIELDS} fields, or a field with fields.")
            name = part.name or ""
            if not _NAME.fullmatch(name):
                raise malformed("The body has a field without a valid name.")
            found = bytearray()
            while chunk := await part.read_chunk(_CHUNK_BYTES):
                found += chunk
                grown(size := size + len(chunk))
            if part.filename is None:
                upload.add_text(name, bytes(found))
            else:
                upload.add_file(name, part.filename, part.headers.get("content-type"), bytes(found))
    except Refusal:
        raise
    except (ValueError, AssertionError, RuntimeError) as error:
        raise malformed(f"The body is not valid multipart/form-data: {error}") from None
    return upload
