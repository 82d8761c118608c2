"""Checks of a request's body: its size, that it is a JSON object, and how deeply it nests."""

import json
import re
from collections.abc import Generator, Iterable, Mapping
from typing import Any, Final, NoReturn

from slipstream_runtime import contract
from slipstream_runtime.web import asgi
from slipstream_runtime.web.openai import Reason
from slipstream_runtime.web.refusal import CLOSE, Refusal, malformed

DEPTH: Final = 64
"""Levels of objects and lists; vLLM allows a JSON schema as many, and nothing nests deeper than a schema."""

NODES: Final = 200_000
"""Objects, lists and fields of a body; each takes up to 300 bytes of memory once it is parsed."""
ITEMS: Final = 2_000_000
"""Items of lists; a batch of 2,048 inputs of 512 tokens has about a million."""
TEXTS: Final = 524_288
"""Texts of a body with too many parts otherwise, names of fields included."""
_EMPTY: Final = re.compile(rb"[ \t\r\n]*+\{[ \t\r\n]*+\Z")
"""Beginning of an object without fields."""

JSON: Final = "application/json"
MULTIPART: Final = "multipart/form-data"
UPLOAD_LIMIT: Final = contract.upload_limit(25)
"""Bytes of a body with a file, unless `contract.FILE_SIZE_VARIABLE` is set: vLLM's default."""

Headers = Iterable[tuple[bytes, bytes]]


def check_head(headers: Headers, *, kind: str = JSON, limit: int = asgi.BODY_LIMIT) -> None:
    """Raise Refusal if the headers alone show that the body can't be used."""
    found = dict(headers)
    given = found.get(b"content-type", b"").split(b";")[0].strip().lower().decode("latin-1")
    if given != kind:
        raise Refusal(
            415,
            f'The content type is "{given}". Send {kind}.',
            reason=Reason.MALFORMED,
            headers=CLOSE,
        )
    length = found.get(b"content-length", b"")
    if length.isdigit() and int(length) > limit:
        raise too_large(limit=limit)


def too_large(*, limit: int = asgi.BODY_LIMIT) -> Refusal:
    """Return 413, which closes the connection because the rest of the body is still on it."""
    message = f"The body is larger than {limit} bytes."
    return Refusal(413, message, reason=Reason.TOO_LARGE, headers=CLOSE)


def check_parts(raw: bytes) -> None:
    """Raise Refusal for a body whose many parts would take long and much memory to parse."""
    if not _is_large(raw):
        return
    # NB: source code in a prompt has brackets and escaped quotes, too.
    plain = raw.replace(rb"\\", b"").replace(rb"\"", b"")
    if plain.count(b'"') > 2 * TEXTS or _is_large(b"".join(plain.split(b'"')[::2])):
        raise malformed(
            f"The body has more than {NODES} objects, lists and fields, more than {ITEMS} items, or more than "
            f"{TEXTS} texts."
        )


def parse(raw: bytes) -> dict[str, Any]:
    """Return the JSON object in the body."""
    check_parts(raw)
    return _parsed(raw)


def parse_in_steps(raw: bytes) -> Generator[None, None, dict[str, Any]]:
    """Do the same in two steps."""
    check_parts(raw)
    yield
    return _parsed(raw)


def _parsed(raw: bytes) -> dict[str, Any]:
    try:
        content = json.loads(raw.decode(), parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise malformed(f"The body is not UTF-8: {error.reason} at byte {error.start}.") from None
    except RecursionError:
        raise too_deep() from None
    except ValueError as error:
        raise malformed(f"The body is not JSON: {error}.") from None
    checked = plain(raw, content)
    if (b"\\ud" in raw or b"\\uD" in raw) and not _is_text(content):
        raise malformed("The body holds half of a surrogate pair, which is not a character.")
    return checked


def plain(raw: bytes, content: object, *, openings: int | None = None) -> dict[str, Any]:
    """Return the content of the body; raise Refusal if it is not an object or nests too deeply.

    `openings` are its brackets, if they were counted.
    """
    if not isinstance(content, dict):
        raise no_object()
    # NB: counting brackets costs microseconds; walking a long list of tokens costs more.
    if openings is None:
        openings = raw.count(b"[") + raw.count(b"{")
    if openings > DEPTH and _deeper(content, than=DEPTH):
        raise too_deep()
    return content


def extended(raw: bytes, fields: Mapping[str, object]) -> bytes:
    """Return the JSON object with these fields added at its end; parsers take the last of two fields with one name."""
    if not fields:
        return raw
    end = len(raw.rstrip()) - 1
    comma = b"" if _EMPTY.match(raw, 0, end) else b","
    # NB: a body with media may have 64 MiB, so it is copied once.
    return b"".join((memoryview(raw)[:end], comma, json.dumps(fields).encode()[1:]))


def with_length(headers: Headers, length: int) -> list[tuple[bytes, bytes]]:
    """Return the headers with this content length."""
    others = [field for field in headers if field[0] not in (b"content-length", b"expect")]
    return [*others, (b"content-length", str(length).encode())]


def _is_large(raw: bytes) -> bool:
    nodes = raw.count(b"[") + raw.count(b"{") + raw.count(b":")
    return nodes > NODES or raw.count(b",") > ITEMS


def _deeper(content: object, *, than: int) -> bool:
    level = [content]
    for _ in range(than):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)  # type: ignore[attr-defined]
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def _is_text(content: object) -> bool:
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def no_object() -> Refusal:
    """Return 400 for a body that is another JSON value."""
    return malformed("The body is not a JSON object.")


def too_deep() -> Refusal:
    """Return 400 for a body that nests too deeply."""
    return malformed(f"The body nests objects and lists more than {DEPTH} levels deep.")


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
