"""API keys in headers, and plain keys in entries of a Secret. Keys are never logged."""

import re
from collections.abc import Iterable, Iterator
from typing import Final

_SEPARATORS: Final = re.compile(rb"[\n,]")


def given(*, authorization: list[bytes], x_api_key: list[bytes]) -> bytes | None:
    """Return the key in the values of these headers: `Authorization: Bearer KEY`, else `x-api-key: KEY`.

    None if the header is there twice, or has another scheme.
    """
    if authorization:
        scheme, _, key = authorization[0].partition(b" ")
        return key.strip() if len(authorization) == 1 and scheme.lower() == b"bearer" else None
    return x_api_key[0].strip() if len(x_api_key) == 1 else None


def in_headers(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Return the key in the headers of a request, whose names are in lower case."""
    fields = [*headers]
    return given(
        authorization=[value for name, value in fields if name == b"authorization"],
        x_api_key=[value for name, value in fields if name == b"x-api-key"],
    )


def split(content: bytes) -> Iterator[bytes]:
    """Return the keys of one entry, which are separated by line feeds or commas."""
    return (key.strip() for key in _SEPARATORS.split(content) if key.strip())
